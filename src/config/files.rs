//! The files a configuration was read from, and how to tell that one of them is another one now.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The files a configuration was read from, each as it was when it was about to be read: the configuration itself,
/// secrets, certificates. Two of these are equal when none of the files has changed in between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<PathBuf, Option<Mark>>);

/// What changes when a file is written, replaced, or reached by another link. Symbolic links are followed, so the swap of
/// a whole directory, as Kubernetes does it, shows as other inodes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    inode: (u64, u64),
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Files {
    /// The same files as they are now. Asks the file system, which may take its time.
    #[must_use]
    pub fn looked_at_again(&self) -> Self {
        Self(self.0.keys().map(|path| (path.clone(), Mark::of(path))).collect())
    }

    /// To be called before the file is read, so that no change goes unseen.
    pub(super) fn note(&mut self, path: &Path) {
        self.0.entry(path.to_owned()).or_insert_with(|| Mark::of(path));
    }
}

impl Mark {
    /// None of a file that is not there.
    fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        Some(Self {
            inode: (found.dev(), found.ino()),
            bytes: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Notes `path`, does something, and says whether that shows.
    fn shows(path: &Path, change: impl FnOnce()) -> bool {
        let mut files = Files::default();
        files.note(path);
        change();
        files.looked_at_again() != files
    }

    #[test]
    fn every_way_to_change_a_file_shows() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let write = |name: &str, text: &str| fs::write(at(name), text).unwrap();
        write("plain", "one");
        assert!(!shows(&at("plain"), || ()), "nothing happened");
        assert!(shows(&at("plain"), || write("plain", "other")), "written in place");
        write("new", "other");
        assert!(shows(&at("plain"), || fs::rename(at("new"), at("plain")).unwrap()), "replaced by one that is alike");
        assert!(shows(&at("plain"), || fs::remove_file(at("plain")).unwrap()), "removed");
        assert!(shows(&at("plain"), || write("plain", "back")), "there again");
    }

    #[test]
    fn the_swap_of_a_kubernetes_volume_shows() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for version in ["..1", "..2"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("key"), "the same").unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/key", at("key")).unwrap();
        assert!(shows(&at("key"), || {
            symlink("..2", at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
        }));
    }
}
