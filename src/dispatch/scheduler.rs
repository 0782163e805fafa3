//! A fair scheduler: bounded queues, one per user and class, served round-robin.
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
/// The same for lists, each of which takes as long as several reads.
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
    const COUNT: usize = 7;

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
    deadline: Instant,
    /// Sequence number: the oldest job has the lowest.
    number: u64,
}

struct OwnerQueue<T> {
    queues: [VecDeque<QueuedJob<T>>; BatchClass::COUNT],
    queued: usize,
    running: usize,
}

/// Decides which jobs run next.
pub struct Scheduler<T> {
    owners: HashMap<Owner, OwnerQueue<T>>,
    /// Owners with queued jobs, in the order of their turns.
    ring: VecDeque<Owner>,
    queued: [usize; BatchClass::COUNT],
    running_slow: usize,
    per_owner_limit: usize,
    slow_limit: usize,
    next_number: u64,
}

impl<T> Scheduler<T> {
    /// A scheduler for this many workers.
    pub fn new(workers: usize) -> Self {
        let half = (workers / 2).max(1);
        Self {
            owners: HashMap::new(),
            ring: VecDeque::new(),
            queued: [0; BatchClass::COUNT],
            running_slow: 0,
            per_owner_limit: half,
            slow_limit: half,
            next_number: 0,
        }
    }

    /// Queues a job until `deadline`. An owner may have at most as many jobs queued as there are free places: one alone
    /// half of all, sixteen a seventeenth each. Thus a few owners with many jobs leave places to newcomers. A
    /// [`BatchClass::LoneWrite`] always gets a place.
    ///
    /// # Errors
    /// The job, when too many are queued.
    pub fn submit(&mut self, owner: Owner, class: BatchClass, job: T, deadline: Instant) -> Result<(), T> {
        let queue = self.owners.entry(owner).or_insert_with(|| OwnerQueue {
            queues: Default::default(),
            queued: 0,
            running: 0,
        });
        let free = MAX_QUEUED.saturating_sub(self.queued.iter().sum());
        let is_full = queue.queued >= free;
        if is_full && class != BatchClass::LoneWrite {
            self.remove_if_unused(owner);
            return Err(job);
        }
        if queue.queued == 0 {
            self.ring.push_back(owner);
        }
        queue.queues[class as usize].push_back(QueuedJob { job, deadline, number: self.next_number });
        queue.queued += 1;
        self.queued[class as usize] += 1;
        self.next_number += 1;
        Ok(())
    }

    /// Takes the next batch, if any may run now. Without `batching` it is a single job.
    pub fn take(&mut self, batching: bool) -> Option<Batch<T>> {
        let class = self.next_class()?;
        let size = if batching { class.batch_size(self.queued[class as usize]) } else { 1 };
        let (mut jobs, mut owners) = (Vec::with_capacity(size), Vec::new());
        // One job per turn, around the ring. An owner without a job of this class keeps its place.
        let mut skipped = Vec::new();
        while jobs.len() < size
            && let Some(owner) = self.ring.pop_front()
        {
            let Some(queue) = self.owners.get_mut(&owner) else { continue };
            let is_new = !owners.contains(&owner);
            let may_run = !is_new || queue.running < self.per_owner_limit;
            let Some(QueuedJob { job, .. }) = may_run.then(|| queue.queues[class as usize].pop_front()).flatten()
            else {
                skipped.push(owner);
                continue;
            };
            if is_new {
                owners.push(owner);
                queue.running += 1;
            }
            jobs.push(job);
            queue.queued -= 1;
            self.queued[class as usize] -= 1;
            if queue.queued > 0 {
                self.ring.push_back(owner);
            }
        }
        skipped.into_iter().rev().for_each(|owner| self.ring.push_front(owner));
        self.running_slow += usize::from(class == BatchClass::Slow);
        Some(Batch { class, jobs, permit: Permit { class, owners } })
    }

    /// The class of the next batch: a retried write, or else the oldest job of the first owner in the ring who may run
    /// one.
    fn next_class(&self) -> Option<BatchClass> {
        let may_run = |owner: &&Owner| self.owners.get(owner).is_some_and(|queue| queue.running < self.per_owner_limit);
        let eligible = || self.ring.iter().filter(may_run).filter_map(|owner| self.owners.get(owner));
        if self.queued[BatchClass::LoneWrite as usize] > 0
            && eligible().any(|queue| !queue.queues[BatchClass::LoneWrite as usize].is_empty())
        {
            return Some(BatchClass::LoneWrite);
        }
        let may_run_slow = self.running_slow < self.slow_limit;
        eligible().find_map(|queue| {
            let fronts = CLASSES.iter().filter(|class| may_run_slow || **class != BatchClass::Slow);
            let numbered = fronts.filter_map(|class| Some((queue.queues[*class as usize].front()?.number, *class)));
            numbered.min_by_key(|(number, _)| *number).map(|(_, class)| class)
        })
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
            for (class, jobs) in queue.queues.iter_mut().enumerate() {
                // An expired job may be anywhere: one that is queued again keeps its deadline.
                let (late, kept): (VecDeque<_>, VecDeque<_>) =
                    mem::take(jobs).into_iter().partition(|job| job.deadline <= now);
                *jobs = kept;
                queue.queued -= late.len();
                self.queued[class] -= late.len();
                expired.extend(late.into_iter().map(|job| job.job));
            }
        }
        if !expired.is_empty() {
            self.ring.retain(|owner| self.owners.get(owner).is_some_and(|queue| queue.queued > 0));
            self.owners.retain(|_, queue| queue.queued > 0 || queue.running > 0);
        }
        expired
    }

    /// How many jobs are queued.
    pub fn queued(&self) -> usize {
        self.queued.iter().sum()
    }

    fn remove_if_unused(&mut self, owner: Owner) {
        if self.owners.get(&owner).is_some_and(|queue| queue.running == 0 && queue.queued == 0) {
            self.owners.remove(&owner);
        }
    }
}

const CLASSES: [BatchClass; BatchClass::COUNT] = [
    BatchClass::LoneWrite,
    BatchClass::Read,
    BatchClass::List,
    BatchClass::Write,
    BatchClass::Slow,
    BatchClass::Verify,
    BatchClass::Probe,
];

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;
