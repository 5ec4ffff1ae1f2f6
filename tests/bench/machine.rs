//! The machine: what it is, which core does what, and what a sync costs.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use livehook::clock::{Clock as _, SystemClock};
use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::load;

/// The cores this process may use, and which part of the measurement each is for.
pub(crate) struct Cores {
    all: CpuSet,
    server: Option<CpuSet>,
    load: Option<CpuSet>,
    /// How it turned out, for people.
    pub(crate) told: String,
}

impl Cores {
    /// The first core for the server and the last for the load, where there are two and the system lets us choose.
    pub(crate) fn divide() -> Self {
        let all = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
        let usable: Vec<_> = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)).collect();
        let (Some(first), Some(last)) = (usable.first(), usable.last()) else {
            return Self { all, server: None, load: None, told: "not pinned: the cores are not known".to_owned() };
        };
        if first == last {
            let told = format!("not pinned: server and load share core {first}");
            return Self { all, server: None, load: None, told };
        }
        let cores = Self {
            all,
            server: Some(only(*first)),
            load: Some(only(*last)),
            told: format!("server {first}, load {last}"),
        };
        match sched_setaffinity(None, cores.load.as_ref().unwrap_or(&cores.all)) {
            Ok(()) => cores,
            Err(error) => Self { server: None, load: None, told: format!("not pinned: {error}"), ..cores },
        }
    }

    /// Awaits `start`, whose children may run anywhere but on the server's core.
    pub(crate) async fn beside_server<T>(&self, start: impl Future<Output = T>) -> T {
        let (Some(server), Some(load)) = (&self.server, &self.load) else {
            return start.await;
        };
        let mut beside = self.all;
        (0..CpuSet::MAX_CPU).filter(|cpu| server.is_set(*cpu)).for_each(|cpu| beside.unset(cpu));
        // Where it fails they share the load's core.
        let _ = sched_setaffinity(None, &beside);
        let started = start.await;
        let _ = sched_setaffinity(None, load);
        started
    }

    /// Runs `start`, whose children inherit the server's core.
    pub(crate) fn on_server<T>(&self, start: impl FnOnce() -> T) -> T {
        let (Some(server), Some(load)) = (&self.server, &self.load) else {
            return start();
        };
        // Where it fails the children stay on the load's core, which `divide` would have met before.
        let _ = sched_setaffinity(None, server);
        let started = start();
        let _ = sched_setaffinity(None, load);
        started
    }
}

fn only(cpu: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(cpu);
    set
}

/// Facts about the program and the machine, each with its name.
pub(crate) fn facts(dir: &Path, cores: &Cores) -> Vec<(&'static str, String)> {
    let cpuinfo = read("/proc/cpuinfo");
    let memory = read("/proc/meminfo");
    let memory =
        memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
    let build = if cfg!(debug_assertions) { "NOT OPTIMISED: the figures say nothing" } else { "optimised" };
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or_else(|| "unknown".to_owned(), |(_, name)| name.to_owned());
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    let online = cpuinfo.lines().filter(|line| line.starts_with("processor")).count().max(count);
    vec![
        ("livehook", env!("CARGO_PKG_VERSION").to_owned()),
        ("build", build.to_owned()),
        ("date", SystemClock.now().rfc3339()),
        ("cores", online.to_string()),
        ("cpu", model),
        ("memory", format!("{:.1} GiB", memory.map_or(0.0, |kib: u32| f64::from(kib) / 1024.0 / 1024.0))),
        ("kernel", read("/proc/sys/kernel/osrelease").trim().to_owned()),
        ("file system", file_system(dir, &read("/proc/self/mounts"))),
        ("pinned", cores.told.clone()),
        ("load before", read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")),
    ]
}

/// Who had the processors since the machine was started, in ticks of their time.
#[derive(Clone, Copy, Default)]
pub(crate) struct Ticks {
    all: f64,
    /// Processes of this machine, the system included.
    busy: f64,
    /// Other guests of the hardware.
    stolen: f64,
    /// This process and its children, once they have ended.
    ours: f64,
}

impl Ticks {
    pub(crate) fn now() -> Self {
        let stat = read("/proc/stat");
        let fields = stat.lines().next().unwrap_or_default().split_whitespace().skip(1).take(8);
        let ticks: Vec<f64> = fields.filter_map(|field| field.parse().ok()).collect();
        let (all, at) = (ticks.iter().sum(), |field: usize| ticks.get(field).copied().unwrap_or_default());
        // Idle, and waiting for a disk, are the fourth and fifth.
        Self { all, busy: all - at(3) - at(4) - at(7), stolen: at(7), ours: ticks_of("self", 4) }
    }

    /// What others had since then, for people.
    pub(crate) fn others_since(self, then: Self) -> String {
        /// Less comes of the system's own work for us.
        const QUIET: f64 = 10.0;
        let share = |of: fn(Self) -> f64| (of(self) - of(then)) / (self.all - then.all).max(1.0) * 100.0;
        let (others, stolen) = (share(|ticks| ticks.busy - ticks.ours).max(0.0), share(|ticks| ticks.stolen));
        let verdict = if others + stolen > QUIET { "; NOT QUIET: what is told of time means little" } else { "" };
        format!("{others:.0} % of the processors' time, and {stolen:.1} % stolen by other guests{verdict}")
    }
}

/// Connections are files: as many as the machine lets us have.
pub(crate) fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it fails, the case that needs more connections says so.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Bytes that can still be written where `dir` lies.
pub(crate) fn free(dir: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The type of the mount `dir` lies on: the longest mount point that leads to it.
fn file_system(dir: &Path, mounts: &str) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let nearest = mounts.filter(|(point, _)| dir.starts_with(point)).max_by_key(|(point, _)| point.len());
    nearest.map_or_else(|| "unknown".to_owned(), |(_, kind)| kind.to_owned())
}

/// Seconds of processor time this process, the load, has used.
pub(crate) fn busy() -> f64 {
    busy_of("self")
}

/// Seconds of processor time a process has used, all its threads together.
pub(crate) fn busy_of(process: &str) -> f64 {
    let per_second = u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100);
    ticks_of(process, 2) / f64::from(per_second)
}

/// The sum of so many of these: time in the program, in the system, and the same of children that have ended.
fn ticks_of(process: &str, fields: usize) -> f64 {
    let stat = read(&format!("/proc/{process}/stat"));
    // After the name in parentheses, which may hold blanks, they are the 12th and those that follow.
    let values = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    values.skip(11).take(fields).filter_map(|field| field.parse::<f64>().ok()).sum()
}

/// Appends 4 KiB and syncs, over and over for `length`. Returns how long each took, in microseconds.
pub(crate) fn sync_latency(dir: &Path, length: Duration) -> io::Result<Histogram<u64>> {
    let path = dir.join("sync-probe");
    let mut file = File::create(&path)?;
    let block = [0x5A; 4096];
    let mut latency = load::histogram();
    let begun = Instant::now();
    while begun.elapsed() < length {
        let one = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        latency.saturating_record(u64::try_from(one.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    drop(file);
    fs::remove_file(&path)?;
    Ok(latency)
}
