//! A fair scheduler: bounded queues, one per user, served round-robin.
//!
//! [`Scheduler`] only decides: in `job_queue.rs` workers wait for it. A batch has one class. A user occupies at most
//! half of the workers, and all slow jobs together at most half. So a quick request soon finds a worker, whatever
//! others ask for.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::time::{Duration, Instant};

/// How many jobs may be queued.
pub const MAX_QUEUED: usize = 1_024;
/// How long a job may be queued.
pub const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
/// The most jobs of a batch.
const MAX_BATCH: usize = 16;
/// The same for lists, each of which takes as long as several reads. With three, 4 connections read 0.85 as many lists
/// of 20 tasks, and the p99 is half as long again.
const MAX_LIST_BATCH: usize = 8;

/// The class of a job. Only jobs of one class share a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchClass {
    /// A write that must not share a transaction: alone, and ahead of everything.
    LoneWrite,
    /// Reads of one task.
    Read,
    /// Short lists in index order.
    List,
    /// Changes of one task.
    Write,
    /// Anything that may take long: alone.
    Slow,
    /// Verification of tokens that are signed with a key.
    Verify,
    /// Readiness probes.
    Probe,
}

impl BatchClass {
    const COUNT: usize = Self::Probe as usize + 1;

    /// How many of `queued` jobs a batch takes. Reads leave half to the next worker. Writes do not: all wait for the
    /// same disk.
    fn batch_size(self, queued: usize) -> usize {
        match self {
            Self::Read | Self::Verify => queued.div_ceil(2).min(MAX_BATCH),
            Self::List => queued.div_ceil(2).min(MAX_LIST_BATCH),
            Self::Write => queued.min(MAX_BATCH),
            Self::LoneWrite | Self::Slow | Self::Probe => 1,
        }
    }
}

/// Whose job it is, for fairness: a user by the hash of the id, or work that belongs to no user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// A user. Two with the same hash would share their turns.
    User(u64),
    /// Tokens that are still to be verified.
    Verification,
    /// Readiness probes.
    Probes,
}

/// Jobs of one class, which one worker runs together.
#[derive(Debug)]
pub struct Batch<T> {
    /// What they have in common.
    pub class: BatchClass,
    /// The jobs.
    pub jobs: Vec<T>,
    /// To be returned with [`Scheduler::finish`] when they are done.
    pub permit: Permit,
}

/// The right to occupy a worker, and the owners that have it.
#[derive(Debug)]
#[must_use]
pub struct Permit {
    class: BatchClass,
    owners: Vec<Owner>,
}

struct QueuedJob<T> {
    job: T,
    class: BatchClass,
    deadline: Instant,
}

struct OwnerQueue<T> {
    /// In the order in which they came.
    jobs: VecDeque<QueuedJob<T>>,
    /// How many batches with jobs of this owner are running.
    running: usize,
}

/// Decides which jobs run next.
pub struct Scheduler<T> {
    owners: HashMap<Owner, OwnerQueue<T>>,
    /// Owners with queued jobs, in the order of their turns.
    ring: VecDeque<Owner>,
    queued: [usize; BatchClass::COUNT],
    running_slow: usize,
    /// How many batches one owner may run, and how many may be slow: half of the workers.
    limit: usize,
}

impl<T> Scheduler<T> {
    /// A scheduler for this many workers.
    pub fn new(workers: usize) -> Self {
        Self {
            owners: HashMap::new(),
            ring: VecDeque::new(),
            queued: [0; BatchClass::COUNT],
            running_slow: 0,
            limit: (workers / 2).max(1),
        }
    }

    /// Queues a job until `deadline`. An owner may have at most as many jobs queued as there are free places: one alone
    /// half of all, sixteen a seventeenth each. Thus a few owners with many jobs leave places to newcomers. A
    /// [`BatchClass::LoneWrite`] always gets a place.
    ///
    /// # Errors
    /// The job, when too many are queued.
    pub fn submit(&mut self, owner: Owner, class: BatchClass, job: T, deadline: Instant) -> Result<(), T> {
        let free = MAX_QUEUED.saturating_sub(self.queued());
        let queue = self.owners.entry(owner).or_insert_with(|| OwnerQueue { jobs: VecDeque::new(), running: 0 });
        if queue.jobs.len() >= free && class != BatchClass::LoneWrite {
            self.remove_if_unused(owner);
            return Err(job);
        }
        if queue.jobs.is_empty() {
            self.ring.push_back(owner);
        }
        queue.jobs.push_back(QueuedJob { job, class, deadline });
        self.queued[class as usize] += 1;
        Ok(())
    }

    /// Takes the next batch, if any may run now. Without `batching` it is a single job.
    pub fn take(&mut self, batching: bool) -> Option<Batch<T>> {
        let class = self.next_class()?;
        let size = if batching { class.batch_size(self.queued[class as usize]) } else { 1 };
        let (mut jobs, mut owners) = (Vec::with_capacity(size), Vec::new());
        // One job per turn, around the ring. An owner without a job of this class keeps its place.
        let mut place = 0;
        while jobs.len() < size
            && let Some(&owner) = self.ring.get(place)
            && let Some(queue) = self.owners.get_mut(&owner)
        {
            let is_new = !owners.contains(&owner);
            let may_run = !is_new || queue.running < self.limit;
            let position = if may_run { queue.jobs.iter().position(|job| job.class == class) } else { None };
            let Some(taken) = position.and_then(|at| queue.jobs.remove(at)) else {
                place += 1;
                continue;
            };
            if is_new {
                owners.push(owner);
                queue.running += 1;
            }
            jobs.push(taken.job);
            self.ring.remove(place);
            if !queue.jobs.is_empty() {
                self.ring.push_back(owner);
            }
        }
        self.queued[class as usize] -= jobs.len();
        self.running_slow += usize::from(class == BatchClass::Slow);
        Some(Batch { class, jobs, permit: Permit { class, owners } })
    }

    /// The class of the next batch: a retried write, or else the oldest job of the first owner in the ring who may run
    /// one.
    fn next_class(&self) -> Option<BatchClass> {
        let owners = || self.ring.iter().filter_map(|owner| self.owners.get(owner));
        let eligible = || owners().filter(|queue| queue.running < self.limit).flat_map(|queue| &queue.jobs);
        let is_lone = |job: &QueuedJob<T>| job.class == BatchClass::LoneWrite;
        if self.queued[BatchClass::LoneWrite as usize] > 0 && eligible().any(is_lone) {
            return Some(BatchClass::LoneWrite);
        }
        let may_run_slow = self.running_slow < self.limit;
        eligible().map(|job| job.class).find(|class| may_run_slow || *class != BatchClass::Slow)
    }

    /// Takes back the permit of a batch that has run.
    pub fn finish(&mut self, Permit { class, owners }: Permit) {
        self.running_slow -= usize::from(class == BatchClass::Slow);
        for owner in owners {
            if let Some(queue) = self.owners.get_mut(&owner) {
                queue.running -= 1;
            }
            self.remove_if_unused(owner);
        }
    }

    /// Removes the jobs whose deadline has passed.
    pub fn expire(&mut self, now: Instant) -> Vec<T> {
        let mut expired = Vec::new();
        for queue in self.owners.values_mut() {
            // An expired job may be anywhere: one that is queued again keeps its deadline.
            let (late, kept): (VecDeque<_>, VecDeque<_>) =
                mem::take(&mut queue.jobs).into_iter().partition(|job| job.deadline <= now);
            queue.jobs = kept;
            for QueuedJob { job, class, .. } in late {
                self.queued[class as usize] -= 1;
                expired.push(job);
            }
        }
        if !expired.is_empty() {
            self.ring.retain(|owner| self.owners.get(owner).is_some_and(|queue| !queue.jobs.is_empty()));
            self.owners.retain(|_, queue| !queue.jobs.is_empty() || queue.running > 0);
        }
        expired
    }

    /// How many jobs are queued.
    pub fn queued(&self) -> usize {
        self.queued.iter().sum()
    }

    fn remove_if_unused(&mut self, owner: Owner) {
        if self.owners.get(&owner).is_some_and(|queue| queue.running == 0 && queue.jobs.is_empty()) {
            self.owners.remove(&owner);
        }
    }
}

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;
