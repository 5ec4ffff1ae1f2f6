//! Where an export is written.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::cli::output;

/// Where the lines go.
pub(super) enum Sink {
    Stdout,
    /// What is there and no regular file, such as a device or a pipe: it is written to as it is, never replaced.
    Open {
        file: BufWriter<File>,
        path: PathBuf,
    },
    /// A file that appears once it is complete.
    Whole {
        part: Part,
        file: BufWriter<File>,
        path: PathBuf,
    },
}

/// The file beside it that is written first; gone when dropped.
pub(super) struct Part(PathBuf);

/// Events hold what their senders wrote, such as parameters of URLs: nobody else is to read them.
const MODE: u32 = 0o600;
/// Links to nothing that are followed; the kernel follows as many.
const LINKS_MAX: usize = 40;

impl Sink {
    /// Opens what `path` leads to; without one, or with `-`, standard output.
    pub(super) fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path.filter(|path| path.as_os_str() != "-") else { return Ok(Self::Stdout) };
        match fs::metadata(path) {
            Ok(there) if there.is_dir() => bail!("{} is a directory; say the name of a file in it", path.display()),
            Ok(there) if !there.is_file() => {
                let file = OpenOptions::new().write(true).open(path);
                let file = file.with_context(|| format!("opening {}", path.display()))?;
                Ok(Self::Open { file: BufWriter::new(file), path: path.to_owned() })
            }
            // As /dev/stdout, when that is redirected into a file: others may be writing to it too.
            Ok(there) if is_stdout(&there) => Ok(Self::Stdout),
            Ok(_) => Self::whole(fs::canonicalize(path).with_context(|| format!("opening {}", path.display()))?),
            Err(_) => Self::whole(end_of_links(path)),
        }
    }

    fn whole(path: PathBuf) -> anyhow::Result<Self> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        // What an export left that was killed; anything else of that name is not ours to remove.
        if fs::symlink_metadata(&part).is_ok_and(|there| there.is_file()) {
            fs::remove_file(&part).with_context(|| format!("removing {}", part.display()))?;
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&part);
        let file = file.with_context(|| format!("creating {}", part.display()))?;
        Ok(Self::Whole { part: Part(part), file: BufWriter::new(file), path })
    }

    pub(super) fn write(&mut self, line: &str) -> anyhow::Result<()> {
        let (file, path) = match self {
            Self::Stdout => return output::json(line),
            Self::Open { file, path } => (file, path),
            Self::Whole { part, file, .. } => (file, &mut part.0),
        };
        writeln!(file, "{line}").with_context(|| format!("writing {}", path.display()))
    }

    /// Nothing more comes: all of it is there once this returns.
    pub(super) fn end(self) -> anyhow::Result<()> {
        match self {
            Self::Stdout => Ok(()),
            Self::Open { mut file, path } => file.flush().with_context(|| format!("writing {}", path.display())),
            Self::Whole { part, mut file, path } => {
                let synced = file.flush().and_then(|()| file.get_ref().sync_all());
                let moved = synced.and_then(|()| fs::rename(&part.0, &path));
                moved.with_context(|| format!("writing {}", path.display()))
            }
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It has its own name by then, unless the export failed.
        let _ = fs::remove_file(&self.0);
    }
}

fn is_stdout(there: &Metadata) -> bool {
    let stdout = io::stdout().as_fd().try_clone_to_owned().and_then(|fd| File::from(fd).metadata());
    stdout.is_ok_and(|stdout| (stdout.dev(), stdout.ino()) == (there.dev(), there.ino()))
}

/// The name of the file that a link to nothing asks for; any other name as it is.
fn end_of_links(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(to) = fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new("")).join(to);
    }
    path
}
