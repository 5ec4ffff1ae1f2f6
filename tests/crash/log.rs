//! The write-ahead log as SQLite lays it out (<https://sqlite.org/fileformat2.html>, section 4.1).

/// A log, read into memory.
pub(crate) struct Log {
    pub(crate) bytes: Vec<u8>,
    page: usize,
}

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

impl Log {
    /// None of what has no header.
    pub(crate) fn read(bytes: Vec<u8>) -> Option<Self> {
        let page = usize::try_from(word(bytes.get(..HEADER)?, 8)).unwrap();
        (word(&bytes, 0) & !1 == 0x377F_0682).then_some(Self { bytes, page })
    }

    /// What makes frames belong to this log, and not to one that was written here before.
    pub(crate) fn salts(&self) -> &[u8] {
        &self.bytes[16..24]
    }

    /// Where each frame begins, and whether it ends a transaction. What lies behind the last one is of an earlier log.
    pub(crate) fn frames(&self) -> impl Iterator<Item = (usize, bool)> {
        let starts = (HEADER..).step_by(self.frame_bytes());
        let whole = starts.take_while(|start| start + self.frame_bytes() <= self.bytes.len());
        let ours = whole.take_while(|start| self.bytes[start + 8..start + 16] == *self.salts());
        ours.map(|start| (start, word(&self.bytes, start + 4) != 0))
    }

    pub(crate) fn frame_bytes(&self) -> usize {
        FRAME_HEADER + self.page
    }

    /// Where the last transaction ends: up to here a sync has confirmed the log once its last commit was answered.
    pub(crate) fn end(&self) -> usize {
        self.frames().filter(|(_, commits)| *commits).last().map_or(HEADER, |(start, _)| start + self.frame_bytes())
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}
