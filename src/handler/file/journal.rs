//! A file of lines that is whole after a crash: what was synced stays, what was torn goes.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// When the file is set aside and what becomes of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) rotate_bytes: Option<u64>,
    pub(super) rotate_keep: usize,
}

/// The file, opened anew whenever it is not the one we know.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    open: Option<Open>,
    /// How bytes get into the file: a test may be the full disk.
    pub(super) write: fn(&mut File, &[u8]) -> io::Result<()>,
    /// How often the file was synced after an append.
    pub(super) syncs: u64,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Device and inode.
    id: (u64, u64),
    /// Up to here the file is whole lines of ours or of others.
    len: u64,
}

impl Journal {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut journal =
            Self { path: path.to_owned(), open: None, write: |file, bytes| file.write_all(bytes), syncs: 0 };
        journal.current()?;
        Ok(journal)
    }

    /// Makes sure that there is an open file at the path, with room for a line of `bytes` where there are limits; an
    /// empty file has room for any line. Returns the room there is.
    pub(super) fn prepare(&mut self, bytes: u64, limits: Limits) -> io::Result<u64> {
        let Some(most) = limits.rotate_bytes else {
            return self.current().map(|_| u64::MAX);
        };
        let mut len = self.current()?.len;
        if len > 0 && len.saturating_add(bytes) > most {
            self.set_aside(limits.rotate_keep)?;
            len = self.current()?.len;
        }
        Ok(most.saturating_sub(len))
    }

    /// Appends whole lines and syncs them. After an error the file is as it was before.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let write = self.write;
        let open = self.current()?;
        let result = write(&mut open.file, lines).and_then(|()| open.file.sync_data());
        if let Err(fault) = result {
            // After a failed sync nobody knows what is in the file, so the next to come opens and repairs it.
            let _ = open.file.set_len(open.len);
            self.open = None;
            return Err(fault);
        }
        open.len += lines.len() as u64;
        self.syncs += 1;
        Ok(())
    }

    /// The file at the path. One that was moved, deleted, cut or written to by others is not the one we know.
    fn current(&mut self) -> io::Result<&mut Open> {
        let known = self.open.take().filter(|open| {
            fs::metadata(&self.path).is_ok_and(|there| id_of(&there) == open.id && there.len() == open.len)
        });
        let open = match known {
            Some(open) => open,
            None => open_repaired(&self.path)?,
        };
        Ok(self.open.insert(open))
    }

    /// Renames the file to `path.1`, after those that stand in the way; the oldest beyond `keep` go.
    fn set_aside(&mut self, keep: usize) -> io::Result<()> {
        let free = (1..=keep).find(|n| !self.numbered(*n).exists()).unwrap_or(keep);
        for n in (1..free).rev() {
            fs::rename(self.numbered(n), self.numbered(n + 1))?;
        }
        if keep == 0 {
            fs::remove_file(&self.path)?;
        } else {
            fs::rename(&self.path, self.numbered(1))?;
        }
        self.open = None;
        // Those that an earlier, larger limit has kept.
        (keep.saturating_add(1)..usize::MAX).map_while(|n| fs::remove_file(self.numbered(n)).ok()).for_each(drop);
        sync_folder(folder_of(&self.path))
    }

    fn numbered(&self, n: usize) -> PathBuf {
        let mut path = OsString::from(&self.path);
        path.push(format!(".{n}"));
        path.into()
    }
}

/// Where the file really is, in a folder that is made: one file has one place, whatever links and `..` lead to it.
pub(super) fn place_of(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let name = path.file_name().ok_or_else(|| io::Error::other("it names no file"))?;
    make_folder(folder_of(&path))?;
    match fs::canonicalize(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(fs::canonicalize(folder_of(&path))?.join(name)),
        found => found,
    }
}

fn open_repaired(path: &Path) -> io::Result<Open> {
    match fs::metadata(path) {
        Ok(there) if !there.is_file() => return Err(io::Error::other("it is not a regular file")),
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => create(path)?,
        Err(e) => return Err(e),
    }
    let mut file = OpenOptions::new().read(true).append(true).open(path)?;
    repair(&mut file)?;
    let there = file.metadata()?;
    Ok(Open { id: id_of(&there), len: there.len(), file })
}

/// Makes an empty file, and its folders, that are there after a crash.
fn create(path: &Path) -> io::Result<()> {
    let folder = folder_of(path);
    make_folder(folder)?;
    // Events carry push secrets: not for everybody's eyes.
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)?.sync_all()?;
    sync_folder(folder)
}

/// Makes a folder, and those above it, where they are missing.
fn make_folder(folder: &Path) -> io::Result<()> {
    let missing = folder.ancestors().take_while(|above| !above.as_os_str().is_empty() && !above.exists()).count();
    fs::DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
    folder.ancestors().skip(1).take(missing).try_for_each(sync_folder)
}

/// Ends the file with a line break. A last line without one that is a torn one of ours is cut off: nobody was told that
/// it is here. Whatever else stands there is kept and ended.
fn repair(file: &mut File) -> io::Result<()> {
    let len = file.metadata()?.len();
    let start = start_of_last_line(file, len)?;
    if start == len {
        return Ok(());
    }
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut tail)?;
    if is_torn(&tail) {
        file.set_len(start)?;
    } else {
        file.write_all(b"\n")?;
    }
    file.sync_all()
}

/// Where the line behind the last line break begins.
fn start_of_last_line(file: &mut File, len: u64) -> io::Result<u64> {
    let mut end = len;
    let mut bytes = vec![0; 64 * 1024];
    while end > 0 {
        let start = end.saturating_sub(bytes.len() as u64);
        let chunk = &mut bytes[..usize::try_from(end - start).unwrap_or(usize::MAX)];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(chunk)?;
        if let Some(at) = chunk.iter().rposition(|&b| b == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Whether this is the beginning of one of our lines, be it empty, and perhaps the zeros some file systems leave behind it
/// after a loss of power.
fn is_torn(tail: &[u8]) -> bool {
    let zeros = tail.iter().rev().take_while(|&&b| b == 0).count();
    let line = &tail[..tail.len() - zeros];
    let ours = line.starts_with(LINE_HEAD) || LINE_HEAD.starts_with(line);
    ours && serde_json::from_slice::<serde::de::IgnoredAny>(tail).is_err()
}

/// The first attribute of every CloudEvents object we write.
const LINE_HEAD: &[u8] = br#"{"specversion":"#;
/// Beyond every body limit that makes sense.
const TAIL_BYTES_MAX: u64 = 64 * 1024 * 1024;

fn id_of(there: &Metadata) -> (u64, u64) {
    (there.dev(), there.ino())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes names last. Some network file systems cannot sync a folder and say so; there is nothing more to be done there.
fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    match File::open(folder)?.sync_all() {
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        result => result,
    }
}
