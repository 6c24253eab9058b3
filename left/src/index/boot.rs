//! What a power cut does to the stat cache.
//!
//! A file system may keep the times of an unsynced write and lose its data. A stat
//! that was taken shortly before the machine went down, and is the same after it came
//! up, says nothing of the content then.

use redb::ReadableTable;

use super::error::{During, IndexError, sound};
use super::{ENTRIES, Index, META};
use crate::record;

/// Linux writes dirty pages back after 30 s, and looks every 5 s
/// (`vm.dirty_expire_centisecs`); this is well beyond.
const WRITTEN_BACK_SECONDS: i64 = 120;

impl Index {
    /// Tells the index in which boot of the machine it is used. In another one than
    /// before, the files that had changed last are to be read again.
    pub fn use_in_boot(&self, boot: u64) -> Result<(), IndexError> {
        let mut txn = self.db.begin_write().during("write")?;
        txn.set_two_phase_commit(true);
        txn.set_quick_repair(true);
        {
            let mut meta = txn.open_table(META).during("write")?;
            let before = meta.insert("boot", boot).during("write")?;
            let before = before.map(|guard| guard.value());
            if before == Some(boot) {
                return Ok(());
            }
            let mut entries = txn.open_table(ENTRIES).during("write")?;
            let mut newest = i64::MIN;
            for item in entries.iter().during("read")? {
                let (_, value) = item.during("read")?;
                let record = sound(record::decode(value.value()))?;
                newest = newest.max(record.stamp.map_or(i64::MIN, |stamp| stamp.ctime.secs));
            }
            let mut doubtful = Vec::new();
            for item in entries.iter().during("read")? {
                let (key, value) = item.during("read")?;
                let mut record = sound(record::decode(value.value()))?;
                let Some(stamp) = record.stamp.as_mut().filter(|stamp| stamp.trusted) else {
                    continue;
                };
                if stamp.ctime.secs >= newest.saturating_sub(WRITTEN_BACK_SECONDS) {
                    stamp.trusted = false;
                    doubtful.push((key.value().to_vec(), record::encode(&record)));
                }
            }
            for (key, value) in doubtful {
                entries
                    .insert(key.as_slice(), value.as_slice())
                    .during("write")?;
            }
        }
        txn.commit().during("commit")
    }
}
