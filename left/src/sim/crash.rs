//! The power goes, and comes back.

use super::machine::Shared;
use super::rng::Rng;

impl Shared {
    /// Keeps what was durable and some of the rest.
    pub(super) fn cut_power(&mut self, seed: u64) {
        let mut rng = Rng::new(seed);
        self.boots += 1;
        let fs = &mut self.fs;
        fs.log
            .cut_power(&mut fs.inodes, &mut rng, fs.config.name_order);
        for inode in fs.inodes.values_mut() {
            inode.cut_power(&mut rng, fs.config.data_loss);
        }
        fs.count_links();
    }
}
