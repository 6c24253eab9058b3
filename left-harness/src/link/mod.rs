//! The data path between the hosts: counted, held and broken outside of both.
