//! The scheduler with simulated users and clocks; the queue with real threads.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::*;
use crate::dispatch::job_queue::JobQueue;
use crate::random::Random;

const ADA: Owner = Owner::User(1);
const BOB: Owner = Owner::User(2);
const EVE: Owner = Owner::User(3);

fn later() -> Instant {
    Instant::now() + QUEUE_TIMEOUT
}

fn scheduler<T>(workers: usize, jobs: impl IntoIterator<Item = (Owner, BatchClass, T)>) -> Scheduler<T> {
    let mut scheduler = Scheduler::new(workers);
    for (owner, class, job) in jobs {
        assert!(scheduler.submit(owner, class, job, later()).is_ok());
    }
    scheduler
}

fn jobs<T>(batch: Option<Batch<T>>) -> Option<Vec<T>> {
    batch.map(|batch| batch.jobs)
}

#[test]
fn batch_when_taken_is_of_one_class_and_half_of_what_reads() {
    use BatchClass::{List, Read, Slow, Write};
    let all = [(Read, 20), (Write, 10), (Slow, 1), (Read, 21), (Write, 11), (Slow, 2), (Read, 22), (List, 30)];
    let users = (1..).map(Owner::User);
    let mut scheduler = scheduler(20, users.zip(all).map(|(owner, (class, job))| (owner, class, job)));
    let mut next = || jobs(scheduler.take(true));
    assert_eq!(next(), Some(vec![20, 21]), "half of the reads, rounded up");
    assert_eq!(next(), Some(vec![10, 11]), "all writes");
    assert_eq!(next(), Some(vec![1]));
    assert_eq!(next(), Some(vec![2]), "slow work goes alone");
    assert_eq!(next(), Some(vec![22]));
    assert_eq!((next(), next()), (Some(vec![30]), None));
}

#[test]
fn batch_when_many_jobs_are_queued_is_bounded() {
    for (class, size) in [
        (BatchClass::Read, MAX_BATCH),
        (BatchClass::List, MAX_LIST_BATCH),
        (BatchClass::Write, MAX_BATCH),
        (BatchClass::Verify, MAX_BATCH),
        (BatchClass::Slow, 1),
        (BatchClass::Probe, 1),
    ] {
        let mut scheduler = scheduler(4, (0..100).map(|job| (ADA, class, job)));
        assert_eq!(jobs(scheduler.take(true)).map(|jobs| jobs.len()), Some(size), "{class:?}");
        assert_eq!(jobs(scheduler.take(false)).map(|jobs| jobs.len()), Some(1), "{class:?} behind a pooler");
    }
}

#[test]
fn users_when_they_have_jobs_are_served_in_turn() {
    let ada = (0..6).map(|job| (ADA, BatchClass::Slow, job));
    let mut scheduler = scheduler(8, ada.chain([(BOB, BatchClass::Slow, 10), (EVE, BatchClass::Slow, 20)]));
    let mut served = Vec::new();
    while let Some(batch) = scheduler.take(true) {
        served.extend(batch.jobs);
        scheduler.finish(batch.permit);
    }
    assert_eq!(served, [0, 10, 20, 1, 2, 3, 4, 5]);
}

#[test]
fn user_when_running_on_half_of_the_workers_waits_and_others_do_not() {
    for (workers, half) in [(1, 1), (2, 1), (3, 1), (4, 2), (8, 4), (128, 64)] {
        let mut scheduler = scheduler(workers, (0..200).map(|job| (ADA, BatchClass::Write, job)));
        let running: Vec<_> = std::iter::from_fn(|| scheduler.take(false)).collect();
        assert_eq!(running.len(), half, "of {workers}");
        assert!(scheduler.submit(BOB, BatchClass::Write, 1_000, later()).is_ok());
        let batch = scheduler.take(false).expect("another user is not held up");
        assert_eq!(batch.jobs, [1_000]);
        for done in running {
            scheduler.finish(done.permit);
            let next = scheduler.take(false).expect("who has fewer running goes on");
            scheduler.finish(next.permit);
        }
        scheduler.finish(batch.permit);
    }
}

#[test]
fn slow_work_when_it_holds_half_of_the_workers_leaves_the_rest_to_quick_work() {
    let heavy = (0..16).flat_map(|user| [(Owner::User(user), BatchClass::Slow, 0); 8]);
    let mut scheduler = scheduler(8, heavy);
    let running: Vec<_> = std::iter::from_fn(|| scheduler.take(true)).collect();
    assert_eq!(running.len(), 4);
    assert!(scheduler.submit(Owner::User(99), BatchClass::Read, 1, later()).is_ok());
    assert_eq!(jobs(scheduler.take(true)), Some(vec![1]));
    running.into_iter().for_each(|batch| scheduler.finish(batch.permit));
    assert!(scheduler.take(true).is_some());
}

#[test]
fn retried_write_when_queued_goes_ahead_and_alone_even_if_the_queue_is_full() {
    let mut scheduler = scheduler(8, (0..MAX_QUEUED / 2).map(|job| (ADA, BatchClass::Write, job)));
    assert!(scheduler.submit(ADA, BatchClass::Write, 9_000, later()).is_err());
    assert!(scheduler.submit(BOB, BatchClass::Read, 9_001, later()).is_ok());
    assert!(scheduler.submit(ADA, BatchClass::LoneWrite, 9_002, later()).is_ok());
    assert_eq!(jobs(scheduler.take(true)), Some(vec![9_002]));
}

#[test]
fn queue_when_full_refuses_and_keeps_nothing_of_it() {
    let mut scheduler = Scheduler::new(2);
    for job in 0..MAX_QUEUED {
        assert!(scheduler.submit(Owner::User(job as u64), BatchClass::Read, job, later()).is_ok());
    }
    assert_eq!(scheduler.submit(Owner::User(u64::MAX), BatchClass::Read, 1, later()), Err(1));
    assert_eq!((scheduler.queued(), scheduler.owners.len()), (MAX_QUEUED, MAX_QUEUED));
}

#[test]
fn queue_when_many_users_fill_it_has_a_place_for_another() {
    for users in [1, 2, 4, 16, 100] {
        let mut scheduler = Scheduler::new(8);
        let mut queued = vec![0; users];
        for (job, user) in (0..200).flat_map(|job| (0..users).map(move |user| (job, user))) {
            queued[user] +=
                usize::from(scheduler.submit(Owner::User(user as u64), BatchClass::Slow, job, later()).is_ok());
        }
        let share = MAX_QUEUED / (users + 1);
        assert!(queued.iter().all(|count| *count >= share.min(200)), "{users}: {queued:?}");
        assert!(scheduler.submit(Owner::User(u64::MAX), BatchClass::Read, 0, later()).is_ok(), "{users}");
    }
}

#[test]
fn job_when_its_deadline_passes_is_removed() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(2);
    for (owner, job, seconds) in [(ADA, 1, 1), (ADA, 2, 3), (BOB, 3, 1)] {
        assert!(scheduler.submit(owner, BatchClass::Read, job, now + Duration::from_secs(seconds)).is_ok());
    }
    assert_eq!(scheduler.expire(now), Vec::<i32>::new());
    let mut expired = scheduler.expire(now + Duration::from_secs(2));
    expired.sort_unstable();
    assert_eq!(expired, [1, 3]);
    assert_eq!((scheduler.queued(), scheduler.ring.len(), scheduler.owners.len()), (1, 1, 1));
    assert_eq!(jobs(scheduler.take(true)), Some(vec![2]));
}

/// Random submits, takes, finishes and expiries beside a simple model of what must hold.
#[test]
fn queue_when_a_deadline_has_passed_gives_the_job_back() {
    let queue = JobQueue::new(2);
    let (now, later) = (Instant::now(), later());
    for (job, deadline) in [("late", now), ("early", later), ("too late", now)] {
        assert!(queue.submit(ADA, BatchClass::Read, job, deadline).is_ok());
    }
    assert_eq!(queue.queued(), 3);
    assert_eq!(queue.expire(now), ["late", "too late"]);
    assert_eq!(queue.queued(), 1);
    assert_eq!(queue.take(None, || true).jobs, ["early"]);
    assert_eq!(queue.queued(), 0);
}

#[test]
fn scheduler_when_driven_at_random_keeps_its_invariants() {
    const WORKERS: usize = 6;
    const CLASSES: [BatchClass; 5] =
        [BatchClass::LoneWrite, BatchClass::Read, BatchClass::List, BatchClass::Write, BatchClass::Slow];
    let mut random = Random::from_env();
    for _ in 0..200 {
        let mut scheduler: Scheduler<(Owner, BatchClass, usize)> = Scheduler::new(WORKERS);
        let mut waiting: HashMap<(Owner, usize), VecDeque<(usize, u64)>> = HashMap::new();
        let mut running: Vec<Batch<(Owner, BatchClass, usize)>> = Vec::new();
        let (begun, mut clock, mut number) = (Instant::now(), 0_u64, 0);
        // How many batches a user with an eligible job has been passed over by.
        let mut passed_over: HashMap<Owner, usize> = HashMap::new();
        for _ in 0..300 {
            clock += random.below(50) as u64;
            let at = |milliseconds| begun + Duration::from_millis(milliseconds);
            match random.below(10) {
                0..=4 => {
                    let owner = Owner::User(random.below(5) as u64);
                    let class = *random.pick(&CLASSES);
                    let deadline = clock + 400;
                    number += 1;
                    assert!(scheduler.submit(owner, class, (owner, class, number), at(deadline)).is_ok());
                    waiting.entry((owner, class as usize)).or_default().push_back((number, deadline));
                }
                5..=7 if running.len() < WORKERS => {
                    let holds = |running: &[Batch<(Owner, BatchClass, usize)>], owner| {
                        running.iter().filter(|batch| batch.permit.owners.contains(&owner)).count()
                    };
                    let slow = running.iter().filter(|batch| batch.class == BatchClass::Slow).count();
                    let may_run = |owner: Owner, class: usize| {
                        holds(&running, owner) < WORKERS / 2
                            && (class != BatchClass::Slow as usize || slow < WORKERS / 2)
                    };
                    let eligible: Vec<_> = waiting
                        .iter()
                        .filter(|((owner, class), jobs)| !jobs.is_empty() && may_run(*owner, *class))
                        .map(|((owner, class), _)| (*owner, *class))
                        .collect();
                    let Some(batch) = scheduler.take(true) else {
                        assert!(eligible.is_empty(), "nothing was taken though something may run");
                        continue;
                    };
                    assert!(eligible.iter().all(|(_, class)| *class != 0) || batch.class == BatchClass::LoneWrite);
                    assert!(!batch.jobs.is_empty() && batch.jobs.len() <= MAX_BATCH);
                    for (owner, class, number) in &batch.jobs {
                        assert_eq!(*class, batch.class, "classes never mix");
                        assert!(may_run(*owner, *class as usize), "a limit was passed");
                        let first = waiting.get_mut(&(*owner, *class as usize)).and_then(VecDeque::pop_front);
                        assert_eq!(first.map(|(first, _)| first), Some(*number), "first in, first out");
                        passed_over.remove(owner);
                    }
                    for (owner, _) in eligible.iter().filter(|(_, class)| *class != 0) {
                        if batch.class != BatchClass::LoneWrite && !batch.permit.owners.contains(owner) {
                            let count = passed_over.entry(*owner).or_default();
                            *count += 1;
                            assert!(*count <= 5 * CLASSES.len(), "a user starves");
                        }
                    }
                    running.push(batch);
                }
                8 if !running.is_empty() => {
                    let done = running.swap_remove(random.below(running.len()));
                    scheduler.finish(done.permit);
                }
                _ => {
                    let mut expired: Vec<_> =
                        scheduler.expire(at(clock)).into_iter().map(|(_, _, number)| number).collect();
                    let mut expected = Vec::new();
                    for jobs in waiting.values_mut() {
                        while jobs.front().is_some_and(|(_, deadline)| *deadline <= clock) {
                            expected.extend(jobs.pop_front().map(|(number, _)| number));
                        }
                    }
                    expired.sort_unstable();
                    expected.sort_unstable();
                    assert_eq!(expired, expected);
                }
            }
            assert_eq!(scheduler.queued(), waiting.values().map(VecDeque::len).sum::<usize>());
        }
        running.into_iter().for_each(|batch| scheduler.finish(batch.permit));
        while let Some(batch) = scheduler.take(true) {
            scheduler.finish(batch.permit);
        }
        assert_eq!((scheduler.queued(), scheduler.owners.len(), scheduler.ring.len()), (0, 0, 0));
    }
}

#[test]
fn worker_when_something_is_queued_does_not_sleep() {
    const JOBS: usize = 20_000;
    let (queue, taken, is_over) = (JobQueue::new(4), AtomicUsize::new(0), AtomicBool::new(false));
    let in_time = thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut done = None;
                while !is_over.load(Ordering::SeqCst) {
                    let Batch { jobs, permit, .. } = queue.take(done.take(), || true);
                    taken.fetch_add(jobs.into_iter().filter(|job| *job > 0).count(), Ordering::SeqCst);
                    done = Some(permit);
                }
            });
        }
        for job in 1..=JOBS {
            let owner = Owner::User(job as u64 % 7);
            while queue.submit(owner, BatchClass::Read, job, later()).is_err() {
                thread::yield_now();
            }
            if job % 7 == 0 {
                thread::sleep(Duration::from_micros(20)); // so that the workers fall asleep now and then
            }
        }
        let begun = Instant::now();
        let all_are_taken = || taken.load(Ordering::SeqCst) == JOBS;
        while !all_are_taken() && begun.elapsed() < Duration::from_secs(10) {
            thread::yield_now();
        }
        let in_time = all_are_taken();
        is_over.store(true, Ordering::SeqCst);
        // Each worker takes one, and sees that it is over.
        for number in 0..4 {
            assert!(queue.submit(Owner::User(100 + number), BatchClass::Probe, 0, later()).is_ok());
        }
        in_time
    });
    assert!(in_time, "a job is queued, and no worker takes it");
}
