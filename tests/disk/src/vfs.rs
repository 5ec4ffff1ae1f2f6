//! What SQLite sees: a `sqlite3_vfs` that hands everything on to the one that was the default before it, and the files
//! it opens. The layout follows SQLite's own shims (`vfstrace.c`): our file begins with a `sqlite3_file` and the real one
//! lies right behind it, in the memory that SQLite allocates for both.
//!
//! Nothing here panics: there is nobody on the other side to catch it.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once, OnceLock, PoisonError, RwLock};

use rusqlite::ffi::{self, sqlite3_file, sqlite3_int64, sqlite3_io_methods, sqlite3_vfs};

use crate::memory::Change;
use crate::state::{Op, Outcome, State};

/// An open file. The real one follows it.
#[repr(C)]
struct File {
    base: sqlite3_file,
    /// From [`Box::into_raw`], given back at the close; null where no disk covers the file.
    covered: *mut Covered,
}

/// A file on a disk of ours.
struct Covered {
    disk: Arc<State>,
    path: PathBuf,
    /// Failed syncs that whoever opened it has been told of.
    told: AtomicU64,
}

/// The disk that was the default before us. SQLite keeps it for the life of the process.
struct Real(*mut sqlite3_vfs);

// SAFETY: a registered VFS is only read, and SQLite itself calls it from every thread.
unsafe impl Send for Real {}
// SAFETY: as above.
unsafe impl Sync for Real {}

static REAL: OnceLock<Real> = OnceLock::new();
static COVERED: RwLock<Vec<(PathBuf, Arc<State>)>> = RwLock::new(Vec::new());

const NAME: &CStr = c"faulty-disk";

pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: asks for the default; initialises SQLite where it is not yet.
        let found = unsafe { ffi::sqlite3_vfs_find(ptr::null()) };
        assert!(!found.is_null(), "SQLite has no disk");
        // SAFETY: what was found is registered and stays valid; nobody writes to it.
        let real = unsafe { &*found };
        let ours = Box::leak(Box::new(shim(real)));
        REAL.get_or_init(|| Real(found));
        // SAFETY: it is complete and lives for ever.
        let code = unsafe { ffi::sqlite3_vfs_register(ours, 1) };
        assert_eq!(code, ffi::SQLITE_OK, "SQLite refuses another disk");
    });
}

pub(crate) fn is_installed() -> bool {
    REAL.get().is_some()
}

pub(crate) fn cover(directory: &Path, state: &Arc<State>) {
    let mut covered = COVERED.write().unwrap_or_else(PoisonError::into_inner);
    covered.push((directory.to_owned(), Arc::clone(state)));
}

pub(crate) fn uncover(directory: &Path, state: &Arc<State>) {
    let mut covered = COVERED.write().unwrap_or_else(PoisonError::into_inner);
    covered.retain(|(path, other)| path != directory || !Arc::ptr_eq(other, state));
}

/// The disk of the innermost directory that covers a file.
fn covering(name: *const c_char) -> Option<Covered> {
    if name.is_null() {
        return None;
    }
    // SAFETY: SQLite gives names that end with a zero and outlive the call.
    let name = Path::new(unsafe { CStr::from_ptr(name) }.to_str().ok()?);
    let covered = COVERED.read().unwrap_or_else(PoisonError::into_inner);
    let found = covered.iter().filter(|(directory, _)| name.starts_with(directory));
    let (_, disk) = found.max_by_key(|(directory, _)| directory.components().count())?;
    Some(Covered { disk: Arc::clone(disk), path: name.to_owned(), told: AtomicU64::new(0) })
}

fn shim(real: &sqlite3_vfs) -> sqlite3_vfs {
    let own = c_int::try_from(size_of::<File>()).unwrap_or(c_int::MAX);
    sqlite3_vfs {
        iVersion: real.iVersion.min(3),
        szOsFile: own + real.szOsFile,
        mxPathname: real.mxPathname,
        pNext: ptr::null_mut(),
        zName: NAME.as_ptr(),
        pAppData: ptr::null_mut(),
        xOpen: Some(open),
        xDelete: Some(delete),
        xAccess: Some(access),
        xFullPathname: Some(full_pathname),
        xDlOpen: real.xDlOpen.and(Some(dl_open)),
        xDlError: real.xDlError.and(Some(dl_error)),
        xDlSym: real.xDlSym.and(Some(dl_sym)),
        xDlClose: real.xDlClose.and(Some(dl_close)),
        xRandomness: Some(randomness),
        xSleep: Some(sleep),
        xCurrentTime: Some(current_time),
        xGetLastError: Some(last_error),
        xCurrentTimeInt64: real.xCurrentTimeInt64.and(Some(current_time_int64)),
        xSetSystemCall: real.xSetSystemCall.and(Some(set_system_call)),
        xGetSystemCall: real.xGetSystemCall.and(Some(system_call)),
        xNextSystemCall: real.xNextSystemCall.and(Some(next_system_call)),
    }
}

fn real_vfs() -> *mut sqlite3_vfs {
    REAL.get().map_or(ptr::null_mut(), |real| real.0)
}

unsafe extern "C" fn open(
    _: *mut sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut sqlite3_file,
    mut flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    let covered = covering(name);
    // SAFETY: `file` points to as many bytes as `szOsFile` asked for, which is ours and then the real one's.
    unsafe {
        // Null methods tell SQLite that there is nothing to close.
        (*file).pMethods = ptr::null();
        if let Some(Covered { disk, path, told }) = &covered {
            if let Outcome::Fail { code, .. } = disk.meet(Op::Open, path, || false) {
                return code;
            }
            if disk.is_read_only() && flags & ffi::SQLITE_OPEN_READWRITE != 0 {
                flags &= !(ffi::SQLITE_OPEN_READWRITE | ffi::SQLITE_OPEN_CREATE);
                flags |= ffi::SQLITE_OPEN_READONLY;
            }
            told.store(disk.memory.opened(path), Ordering::Relaxed);
        }
        let real = real_file(file);
        (*real).pMethods = ptr::null();
        let Some(open) = (*real_vfs()).xOpen else { return ffi::SQLITE_CANTOPEN };
        let code = open(real_vfs(), name, real, flags, out_flags);
        let methods = (*real).pMethods;
        if code == ffi::SQLITE_OK {
            (*file.cast::<File>()).covered =
                covered.map_or(ptr::null_mut(), |covered| Box::into_raw(Box::new(covered)));
            (*file).pMethods = &raw const *match (*methods).iVersion {
                ..2 => &METHODS_1,
                2 => &METHODS_2,
                3.. => &METHODS_3,
            };
        } else if !methods.is_null()
            && let Some(close) = (*methods).xClose
        {
            close(real);
        }
        code
    }
}

unsafe extern "C" fn delete(_: *mut sqlite3_vfs, name: *const c_char, sync_directory: c_int) -> c_int {
    if let Some(Covered { disk, path, .. }) = covering(name) {
        if let Outcome::Fail { code, .. } = disk.meet(Op::Delete, &path, || false) {
            return code;
        }
        disk.memory.deleted(&path);
    }
    // SAFETY: the arguments are the caller's, for the disk they are meant for.
    unsafe { (*real_vfs()).xDelete.map_or(ffi::SQLITE_IOERR_DELETE, |f| f(real_vfs(), name, sync_directory)) }
}

/// Hands a method of the disk on as it is.
macro_rules! hand_on {
    ($($name:ident: $method:ident($($arg:ident: $kind:ty),*) -> $result:ty, else $otherwise:expr;)*) => {$(
        unsafe extern "C" fn $name(_: *mut sqlite3_vfs $(, $arg: $kind)*) -> $result {
            // SAFETY: the arguments are the caller's, for the disk they are meant for.
            unsafe { (*real_vfs()).$method.map_or($otherwise, |f| f(real_vfs() $(, $arg)*)) }
        }
    )*};
}

/// What `xDlSym` returns.
type Symbol = Option<unsafe extern "C" fn(*mut sqlite3_vfs, *mut c_void, *const c_char)>;

hand_on! {
    access: xAccess(name: *const c_char, flags: c_int, found: *mut c_int) -> c_int, else ffi::SQLITE_IOERR_ACCESS;
    full_pathname: xFullPathname(name: *const c_char, room: c_int, full: *mut c_char) -> c_int, else ffi::SQLITE_CANTOPEN;
    dl_open: xDlOpen(name: *const c_char) -> *mut c_void, else ptr::null_mut();
    dl_error: xDlError(room: c_int, message: *mut c_char) -> (), else ();
    dl_sym: xDlSym(library: *mut c_void, symbol: *const c_char) -> Symbol, else None;
    dl_close: xDlClose(library: *mut c_void) -> (), else ();
    randomness: xRandomness(room: c_int, bytes: *mut c_char) -> c_int, else 0;
    sleep: xSleep(microseconds: c_int) -> c_int, else 0;
    current_time: xCurrentTime(days: *mut f64) -> c_int, else ffi::SQLITE_ERROR;
    last_error: xGetLastError(room: c_int, message: *mut c_char) -> c_int, else 0;
    current_time_int64: xCurrentTimeInt64(time: *mut sqlite3_int64) -> c_int, else ffi::SQLITE_ERROR;
    set_system_call: xSetSystemCall(name: *const c_char, call: ffi::sqlite3_syscall_ptr) -> c_int, else ffi::SQLITE_NOTFOUND;
    system_call: xGetSystemCall(name: *const c_char) -> ffi::sqlite3_syscall_ptr, else None;
    next_system_call: xNextSystemCall(name: *const c_char) -> *const c_char, else ptr::null();
}

/// Which methods a file has depends on the version; those past it are never looked at.
const fn methods(version: c_int) -> sqlite3_io_methods {
    sqlite3_io_methods {
        iVersion: version,
        xClose: Some(close),
        xRead: Some(read),
        xWrite: Some(write),
        xTruncate: Some(truncate),
        xSync: Some(sync),
        xFileSize: Some(file_size),
        xLock: Some(lock),
        xUnlock: Some(unlock),
        xCheckReservedLock: Some(check_reserved_lock),
        xFileControl: Some(file_control),
        xSectorSize: Some(sector_size),
        xDeviceCharacteristics: Some(device_characteristics),
        xShmMap: Some(shm_map),
        xShmLock: Some(shm_lock),
        xShmBarrier: Some(shm_barrier),
        xShmUnmap: Some(shm_unmap),
        xFetch: Some(fetch),
        xUnfetch: Some(unfetch),
    }
}

static METHODS_1: sqlite3_io_methods = methods(1);
static METHODS_2: sqlite3_io_methods = methods(2);
static METHODS_3: sqlite3_io_methods = methods(3);

/// The real file behind one of ours.
///
/// # Safety
///
/// `file` must point to memory that SQLite allocated for a file of ours.
unsafe fn real_file(file: *mut sqlite3_file) -> *mut sqlite3_file {
    // SAFETY: that memory is `szOsFile` long, so there is a real file behind ours.
    unsafe { file.cast::<File>().add(1).cast() }
}

/// An open file on a disk of ours.
///
/// # Safety
///
/// `file` must have been opened by [`open`] and not be closed as long as what is returned is used.
unsafe fn covered<'a>(file: *mut sqlite3_file) -> Option<&'a Covered> {
    // SAFETY: an open file holds what covers it.
    unsafe { (*file.cast::<File>()).covered.as_ref() }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: SQLite closes a file once, and what it was opened with.
    unsafe {
        let real = real_file(file);
        let code = (*(*real).pMethods).xClose.map_or(ffi::SQLITE_OK, |f| f(real));
        let covered = std::mem::replace(&mut (*file.cast::<File>()).covered, ptr::null_mut());
        if !covered.is_null() {
            drop(Box::from_raw(covered));
        }
        code
    }
}

unsafe extern "C" fn read(file: *mut sqlite3_file, into: *mut c_void, count: c_int, offset: sqlite3_int64) -> c_int {
    // SAFETY: the file is open, and the arguments are the caller's.
    unsafe {
        if let Some(Covered { disk, path, .. }) = covered(file)
            && let Outcome::Fail { code, .. } = disk.meet(Op::Read, path, || false)
        {
            return code;
        }
        let real = real_file(file);
        (*(*real).pMethods).xRead.map_or(ffi::SQLITE_IOERR_READ, |f| f(real, into, count, offset))
    }
}

unsafe extern "C" fn write(file: *mut sqlite3_file, from: *const c_void, count: c_int, offset: sqlite3_int64) -> c_int {
    // SAFETY: the file is open, and the arguments are the caller's; of a torn write fewer bytes than given are taken.
    unsafe {
        let real = real_file(file);
        let write =
            |count| (*(*real).pMethods).xWrite.map_or(ffi::SQLITE_IOERR_WRITE, |f| f(real, from, count, offset));
        let Some(Covered { disk, path, .. }) = covered(file) else {
            return write(count);
        };
        let grows = || {
            let mut size = 0;
            let code = (*(*real).pMethods).xFileSize.map_or(ffi::SQLITE_IOERR_FSTAT, |f| f(real, &raw mut size));
            code == ffi::SQLITE_OK && offset + sqlite3_int64::from(count) > size
        };
        let (arriving, failure) = match disk.meet(Op::Write, path, grows) {
            Outcome::Pass => (count, None),
            Outcome::Fail { code, arriving } => (c_int::try_from(arriving).unwrap_or(count).min(count), Some(code)),
        };
        let written = if arriving > 0 { write(arriving) } else { ffi::SQLITE_OK };
        if disk.memory.is_on()
            && let (Ok(offset), Ok(length)) = (usize::try_from(offset), usize::try_from(arriving))
        {
            let bytes = std::slice::from_raw_parts(from.cast::<u8>(), length).to_vec();
            disk.memory.changed(path, Change::Write { offset, bytes });
        }
        failure.unwrap_or(written)
    }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: sqlite3_int64) -> c_int {
    // SAFETY: the file is open, and the arguments are the caller's.
    unsafe {
        if let Some(Covered { disk, path, .. }) = covered(file) {
            if let Outcome::Fail { code, .. } = disk.meet(Op::Truncate, path, || false) {
                return code;
            }
            disk.memory.changed(path, Change::Truncate { size: usize::try_from(size).unwrap_or(0) });
        }
        let real = real_file(file);
        (*(*real).pMethods).xTruncate.map_or(ffi::SQLITE_IOERR_TRUNCATE, |f| f(real, size))
    }
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: the file is open, and the arguments are the caller's.
    unsafe {
        let real = real_file(file);
        let sync = || (*(*real).pMethods).xSync.map_or(ffi::SQLITE_IOERR_FSYNC, |f| f(real, flags));
        let Some(Covered { disk, path, told }) = covered(file) else {
            return sync();
        };
        match disk.meet(Op::Sync, path, || false) {
            Outcome::Pass => disk.memory.sync(path, told, sync),
            Outcome::Fail { code, .. } => disk.memory.sync(path, told, || code),
        }
    }
}

/// Hands a method of a file on as it is.
macro_rules! hand_on_file {
    ($($name:ident: $method:ident($($arg:ident: $kind:ty),*) -> $result:ty, else $otherwise:expr;)*) => {$(
        unsafe extern "C" fn $name(file: *mut sqlite3_file $(, $arg: $kind)*) -> $result {
            // SAFETY: the file is open, and the arguments are the caller's.
            unsafe {
                let real = real_file(file);
                (*(*real).pMethods).$method.map_or($otherwise, |f| f(real $(, $arg)*))
            }
        }
    )*};
}

hand_on_file! {
    file_size: xFileSize(size: *mut sqlite3_int64) -> c_int, else ffi::SQLITE_IOERR_FSTAT;
    lock: xLock(level: c_int) -> c_int, else ffi::SQLITE_IOERR_LOCK;
    unlock: xUnlock(level: c_int) -> c_int, else ffi::SQLITE_IOERR_UNLOCK;
    check_reserved_lock: xCheckReservedLock(held: *mut c_int) -> c_int, else ffi::SQLITE_IOERR_CHECKRESERVEDLOCK;
    file_control: xFileControl(op: c_int, arg: *mut c_void) -> c_int, else ffi::SQLITE_NOTFOUND;
    sector_size: xSectorSize() -> c_int, else 0;
    device_characteristics: xDeviceCharacteristics() -> c_int, else 0;
    shm_map: xShmMap(page: c_int, size: c_int, extend: c_int, to: *mut *mut c_void) -> c_int, else ffi::SQLITE_IOERR_SHMMAP;
    shm_lock: xShmLock(offset: c_int, count: c_int, flags: c_int) -> c_int, else ffi::SQLITE_IOERR_SHMLOCK;
    shm_barrier: xShmBarrier() -> (), else ();
    shm_unmap: xShmUnmap(delete: c_int) -> c_int, else ffi::SQLITE_OK;
    fetch: xFetch(offset: sqlite3_int64, count: c_int, to: *mut *mut c_void) -> c_int, else ffi::SQLITE_IOERR_MMAP;
    unfetch: xUnfetch(offset: sqlite3_int64, page: *mut c_void) -> c_int, else ffi::SQLITE_OK;
}
