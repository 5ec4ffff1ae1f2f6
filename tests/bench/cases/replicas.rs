//! One, two and three replicas that share a PostgreSQL, against what that server inserts by itself, and whether
//! everything that was answered is stored, once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use livehook::clock::{Clock as _, SystemClock};

use super::delivery::{DEPTH, DONE};
use super::{Bench, SETTLE, WARM_UP, add, float, median, span, told};
use crate::child::{Handler, Program, Server};
use crate::event::BODY_BYTES;
use crate::load::{self, CONNECTIONS, Outcome, Span, Target};
use crate::report::Bound;
use crate::sink::Sink;
use crate::stores::{self, Databases, Stores};

const REPLICAS: [usize; 3] = [1, 2, 3];
/// Rows of one commit where many are inserted together.
const ROWS: usize = 256;
/// The rate at which latency is measured, of all replicas together.
const RATE: u32 = 1000;
/// What is owed at the end may take this long to be delivered.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Replicas of one database.
struct Group {
    name: String,
    servers: Vec<Server>,
    targets: Vec<Target>,
    /// Events they have answered.
    answered: u64,
}

/// What all groups together have answered, and lack.
#[derive(Default)]
struct Account {
    answered: u64,
    lost: u64,
}

impl Bench {
    pub(crate) async fn replicas(&mut self) -> io::Result<()> {
        let stores = Arc::clone(&self.stores);
        let Stores::Postgres(databases) = &*stores else {
            return Ok(());
        };
        self.report.fact("store", databases.version().await?);
        let single = self.inserts(databases, CONNECTIONS, 1).await?;
        self.report.tell("PostgreSQL alone, one row a commit, 64 connections", single, "/s");
        let many = self.inserts(databases, 1, ROWS).await?;
        self.report.tell("PostgreSQL alone, 256 rows a commit, one connection", many, "/s");
        let (sink, mut account, mut one) = (Sink::start()?, Account::default(), None);
        for count in REPLICAS {
            let accepted = self.accept(databases, count, &mut account).await?;
            let one = *one.get_or_insert(accepted);
            let note = format!(
                "{:.2} of one replica, {:.2} of single commits, {:.2} of 256 together",
                accepted / one,
                accepted / single,
                accepted / many
            );
            self.report.add(format!("accept, {}", replicas(count)), accepted, "/s", Bound::None, note);
            let with = self.deliver_too(databases, count, &sink, &mut account).await?;
            let note = format!("{:.2} of accept alone", with / accepted);
            let what = format!("accept while delivering over HTTP, {}", replicas(count));
            self.report.add(what, with, "/s", Bound::None, note);
        }
        let (bound, note) = (Bound::Less { must: 0.0, want: 0.0 }, format!("of {}", account.answered));
        self.report.add("answered events that are not stored", float(account.lost), "", bound, note);
        Ok(())
    }

    /// Rows as large as events, inserted a second.
    async fn inserts(&self, databases: &Databases, connections: usize, rows: usize) -> io::Result<f64> {
        self.stores.clear(&self.dir, "inserts").await?;
        let url = databases.url_of("inserts");
        let mut first = stores::connect(&url).await?;
        let table = "CREATE TABLE inserts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body bytea NOT NULL)";
        sqlx::query(table).execute(&mut first).await.map_err(io::Error::other)?;
        let (inserted, length) = (AtomicU64::new(0), self.plan.window);
        let connections = try_join_all((0..connections).map(|_| stores::connect(&url))).await?;
        let begun = Instant::now();
        let inserting = connections.into_iter().map(async |mut db| {
            let bodies = vec![vec![b'x'; BODY_BYTES]; rows];
            while begun.elapsed() < length {
                let insert = sqlx::query("INSERT INTO inserts (body) SELECT unnest($1::bytea[])").bind(&bodies);
                insert.execute(&mut db).await.map_err(io::Error::other)?;
                inserted.fetch_add(rows as u64, Ordering::Relaxed);
            }
            Ok::<_, io::Error>(())
        });
        try_join_all(inserting).await?;
        Ok(float(inserted.into_inner()) / begun.elapsed().as_secs_f64())
    }

    /// What so many replicas take a second, all at saturation; then how long answers take at a rate.
    async fn accept(&mut self, databases: &Databases, count: usize, account: &mut Account) -> io::Result<f64> {
        let mut group = self.group(count, Handler::Idle, format!("replicas-{count}")).await?;
        let rate = self.saturated(&mut group).await?;
        let each = RATE / u32::try_from(count).unwrap_or(1);
        let latency = group.paced(each, span(self.plan.window)).await?;
        let p99 = float(latency.value_at_quantile(0.99)) / 1000.0;
        let what = format!("answer at 1,000/s, p99, {}", replicas(count));
        self.report.add(what, p99, " ms", Bound::None, told(&latency));
        self.audit(databases, &group, account).await?;
        if Some(&count) == REPLICAS.last() {
            self.copies(databases, &group).await?;
        }
        Ok(rate)
    }

    /// The same while every event is also delivered.
    async fn deliver_too(
        &mut self,
        databases: &Databases,
        count: usize,
        sink: &Sink,
        account: &mut Account,
    ) -> io::Result<f64> {
        let mut group = self.group(count, Handler::Http(sink.address), format!("delivering-{count}")).await?;
        let rate = self.saturated(&mut group).await?;
        let begun = Instant::now();
        let delivered = group.sum(DONE).await?;
        while group.servers[0].metric(DEPTH).await? > 0.0 && begun.elapsed() < DRAIN_MAX {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let (done, owed) = (group.sum(DONE).await?, group.servers[0].metric(DEPTH).await?);
        let note = format!(
            "{delivered:.0} by the end of the load, {owed:.0} owed {:.1} s later",
            begun.elapsed().as_secs_f64()
        );
        let what = format!("answered events delivered, {}", replicas(count));
        self.report.add(what, done / float(group.answered.max(1)), "", Bound::None, note);
        self.audit(databases, &group, account).await?;
        Ok(rate)
    }

    async fn group(&self, count: usize, handler: Handler<'_>, name: String) -> io::Result<Group> {
        self.stores.clear(&self.dir, &name).await?;
        let url = self.stores.url(&self.dir, &name);
        let start = |number| {
            let dir = self.dir.join(format!("{name}-{number}"));
            Server::livehook(&self.cores, &Program::Ours, &dir, handler, &url)
        };
        let servers: Vec<_> = (0..count).map(start).collect::<io::Result<_>>()?;
        tokio::time::sleep(SETTLE).await;
        let connections = CONNECTIONS / count;
        let targets = servers.iter().map(|server| Target { connections, ..self.target(server) }).collect();
        Ok(Group { name, servers, targets, answered: 0 })
    }

    async fn saturated(&self, group: &mut Group) -> io::Result<f64> {
        group.saturate(span(WARM_UP)).await?;
        let mut rates = Vec::new();
        for _ in 0..self.plan.rounds.div_ceil(2) {
            rates.push(group.saturate(span(self.plan.window)).await?);
        }
        Ok(median(rates.into_iter()))
    }

    /// Counts what is stored against what was answered.
    async fn audit(&mut self, databases: &Databases, group: &Group, account: &mut Account) -> io::Result<()> {
        account.answered += group.answered;
        account.lost += group.answered.saturating_sub(databases.events(&group.name).await?);
        for server in &group.servers {
            self.check(server, &group.name).await?;
        }
        Ok(())
    }

    /// Sends to one replica what another has answered, as the repetitions of CSS come behind a load balancer.
    async fn copies(&mut self, databases: &Databases, group: &Group) -> io::Result<()> {
        let happened = Some(SystemClock.now().secs().unsigned_abs());
        let first = Target { happened, ..group.targets[0].clone() };
        let again = Target { happened, numbers: self.numbers.again(), ..group.targets[1].clone() };
        let length = span(self.plan.window / 3);
        load::pace(&first, RATE, length).await?;
        let stored = databases.events(&group.name).await?;
        let copies = load::pace(&again, RATE, length).await?;
        let more = databases.events(&group.name).await? - stored;
        let (bound, note) = (Bound::Less { must: 0.0, want: 0.0 }, format!("of {} answered", copies.answered));
        self.report.add("copies at another replica that were stored again", float(more), "", bound, note);
        Ok(())
    }
}

impl Group {
    /// Answers a second of all of them together.
    async fn saturate(&mut self, length: Span) -> io::Result<f64> {
        let outcomes = try_join_all(self.targets.iter().map(|target| load::saturate(target, length))).await?;
        let took = outcomes.iter().map(|outcome| outcome.took).max().unwrap_or_default();
        Ok(float(self.count(&outcomes)) / took.as_secs_f64())
    }

    /// How long answers take while each of them is sent so many a second.
    async fn paced(&mut self, each: u32, length: Span) -> io::Result<Histogram<u64>> {
        let outcomes = try_join_all(self.targets.iter().map(|target| load::pace(target, each, length))).await?;
        self.count(&outcomes);
        let mut latency = load::histogram();
        for outcome in &outcomes {
            add(&mut latency, &outcome.latency);
        }
        Ok(latency)
    }

    fn count(&mut self, outcomes: &[Outcome]) -> u64 {
        let answered = outcomes.iter().map(|outcome| outcome.answered).sum();
        self.answered += answered;
        answered
    }

    /// A metric of all of them.
    async fn sum(&self, metric: &str) -> io::Result<f64> {
        Ok(try_join_all(self.servers.iter().map(|server| server.metric(metric))).await?.into_iter().sum())
    }
}

fn replicas(count: usize) -> String {
    if count == 1 { "one replica".to_owned() } else { format!("{count} replicas") }
}
