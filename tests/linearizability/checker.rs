//! Linearizability of one task: whether some order of the operations explains every response (Herlihy and Wing, 1990).
//!
//! The search is that of Wing and Gong (1993) with Lowe's memoisation: it extends an order by any operation that began
//! before every operation that is left out has ended, and visits each configuration once. Three facts keep it small:
//! - A title is written by one operation, and a tag names one state. So a state must not be left while a response that
//!   shows it is still to be explained: no later state can explain it. The rest of a configuration tells which
//!   unanswered writes have taken effect.
//! - A read or a refused write that fits the current state changes nothing: it goes first, without an alternative.
//! - Unanswered toggles are interchangeable, and so are unanswered writes whose titles no response shows.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use crate::history::{Call, Operation, Outcome, Seen, Tag, Title};

/// Why a history was not accepted.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// No order explains the responses; where the longest one ended.
    NotLinearizable(String),
    /// The search was given up.
    TooManyConfigurations,
}

/// The state of the task. `None`: an unanswered operation made it, and no response in the order so far shows its tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    tag: Option<Tag>,
    title: Title,
    completed: bool,
}

/// Which answered operations are in the order (all before `prefix`, and `others`), and what state they lead to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    prefix: usize,
    others: Vec<usize>,
    state: State,
}

#[derive(Debug, Clone)]
struct Configuration {
    key: Key,
    toggles_used: usize,
    hidden_writes_used: usize,
}

impl Key {
    fn length(&self) -> usize {
        self.prefix + self.others.len()
    }

    fn contains(&self, index: usize) -> bool {
        index < self.prefix || self.others.contains(&index)
    }

    fn insert(&mut self, index: usize) {
        let place = self.others.partition_point(|other| *other < index);
        self.others.insert(place, index);
        while self.others.first() == Some(&self.prefix) {
            self.others.remove(0);
            self.prefix += 1;
        }
    }
}

/// Checks a history that begins with the task in the state `initial`.
///
/// # Errors
/// When no order of the operations explains the responses, or after `max_configurations`.
pub fn check(initial: Seen, history: &[Operation], max_configurations: usize) -> Result<(), Failure> {
    let search = Search::new(initial, history)?;
    let state = State { tag: Some(initial.tag), title: initial.title, completed: initial.completed };
    let key = Key { prefix: 0, others: Vec::new(), state };
    let mut stack = vec![Configuration { key, toggles_used: 0, hidden_writes_used: 0 }];
    let mut visited: HashMap<Key, (usize, usize)> = HashMap::new();
    let mut furthest = stack[0].key.clone();
    let mut visits = 0;
    while let Some(configuration) = stack.pop() {
        let used = (configuration.toggles_used, configuration.hidden_writes_used);
        match visited.entry(configuration.key.clone()) {
            Entry::Occupied(before) if before.get().0 <= used.0 && before.get().1 <= used.1 => continue,
            Entry::Occupied(mut before) => drop(before.insert(used)),
            Entry::Vacant(place) => drop(place.insert(used)),
        }
        visits += 1;
        if visits > max_configurations {
            return Err(Failure::TooManyConfigurations);
        }
        if configuration.key.length() > furthest.length() {
            furthest = configuration.key.clone();
        }
        if configuration.key.prefix == search.answered.len() {
            return Ok(());
        }
        search.push_successors(&configuration, &mut stack);
    }
    Err(Failure::NotLinearizable(search.explain(&furthest)))
}

struct Search {
    /// In the order of their starts.
    answered: Vec<Operation>,
    /// Indices of the responses that show a state of this title, or this tag, which another operation made.
    title_observers: HashMap<Title, Vec<usize>>,
    tag_observers: HashMap<Tag, Vec<usize>>,
    /// Tags of the states that answered operations made.
    made_tags: HashSet<Tag>,
    /// Unanswered operations in the order of their starts: writes whose titles some response shows, starts of the other
    /// unconditional writes, the other conditional ones, starts of toggles.
    shown_writes: Vec<(u64, Option<Tag>, Title)>,
    hidden_writes: Vec<u64>,
    hidden_compare_and_sets: Vec<(u64, Tag, Title)>,
    toggles: Vec<u64>,
}

impl Search {
    fn new(initial: Seen, history: &[Operation]) -> Result<Self, Failure> {
        let mut history = history.to_vec();
        history.sort_by_key(|operation| operation.start);
        let (unanswered, answered): (Vec<_>, Vec<_>) =
            history.into_iter().partition(|operation| operation.outcome == Outcome::Unknown);
        let mut search = Self {
            answered,
            title_observers: HashMap::new(),
            tag_observers: HashMap::new(),
            made_tags: HashSet::from([initial.tag]),
            shown_writes: Vec::new(),
            hidden_writes: Vec::new(),
            hidden_compare_and_sets: Vec::new(),
            toggles: Vec::new(),
        };
        search.note_responses(initial)?;
        for Operation { call, start, .. } in unanswered {
            match call {
                Call::Read => {}
                Call::Toggle => search.toggles.push(start),
                Call::Write(title) | Call::CompareAndSet(_, title) if search.title_observers.contains_key(&title) => {
                    let tag = if let Call::CompareAndSet(tag, _) = call { Some(tag) } else { None };
                    search.shown_writes.push((start, tag, title));
                }
                Call::Write(_) => search.hidden_writes.push(start),
                Call::CompareAndSet(tag, title) => search.hidden_compare_and_sets.push((start, tag, title)),
            }
        }
        Ok(search)
    }

    /// Notes which response shows what. A tag that names two states explains itself.
    fn note_responses(&mut self, initial: Seen) -> Result<(), Failure> {
        let mut states = HashMap::from([(initial.tag, initial)]);
        for (index, operation) in self.answered.iter().enumerate() {
            let Outcome::Done(seen) = operation.outcome else { continue };
            if *states.entry(seen.tag).or_insert(seen) != seen
                || operation.call != Call::Read && !self.made_tags.insert(seen.tag)
            {
                return Err(Failure::NotLinearizable(format!("tag {} names two states: {operation:?}", seen.tag)));
            }
            match operation.call {
                Call::Read => {
                    self.title_observers.entry(seen.title).or_default().push(index);
                    self.tag_observers.entry(seen.tag).or_default().push(index);
                }
                Call::Toggle => self.title_observers.entry(seen.title).or_default().push(index),
                Call::Write(_) => {}
                Call::CompareAndSet(tag, _) => self.tag_observers.entry(tag).or_default().push(index),
            }
        }
        Ok(())
    }

    /// What the order can go on with; the most promising on top of the stack.
    fn push_successors(&self, from: &Configuration, stack: &mut Vec<Configuration>) {
        let key = &from.key;
        let (candidates, horizon) = self.candidates(key);
        let is_free = |index: &&usize| self.leaves_state_alone(key.state, self.answered[**index]);
        if let Some(index) = candidates.iter().find(is_free) {
            let mut next = from.clone();
            next.key.insert(*index);
            return stack.push(next);
        }
        self.push_unanswered(from, &candidates, horizon, stack);
        for index in candidates.into_iter().rev() {
            let mut next = from.clone();
            next.key.insert(index);
            if let Some(state) = self.apply(key.state, self.answered[index])
                && self.may_leave(&next.key, state)
            {
                next.key.state = state;
                stack.push(next);
            }
        }
    }

    /// The answered operations that may come next, and the time before which an unanswered one must have begun.
    fn candidates(&self, key: &Key) -> (Vec<usize>, u64) {
        let mut horizon = u64::MAX;
        let mut candidates = Vec::new();
        for (index, operation) in self.answered.iter().enumerate().skip(key.prefix) {
            if operation.start > horizon {
                break;
            }
            if !key.contains(index) {
                horizon = horizon.min(operation.end);
                candidates.push(index);
            }
        }
        candidates.retain(|index| self.answered[*index].start <= horizon);
        (candidates, horizon)
    }

    /// Whether the response fits this state, and the operation changes nothing, not even what is known of the tag.
    fn leaves_state_alone(&self, state: State, operation: Operation) -> bool {
        match (operation.call, operation.outcome) {
            (Call::Read, Outcome::Done(seen)) => {
                state == State { tag: Some(seen.tag), title: seen.title, completed: seen.completed }
            }
            // A client saw `tag` before, so a state whose tag nobody saw has another.
            (Call::CompareAndSet(tag, _), Outcome::Refused) => state.tag != Some(tag),
            _ => false,
        }
    }

    /// The state after an answered operation that is not free, if the response fits.
    fn apply(&self, state: State, operation: Operation) -> Option<State> {
        let Outcome::Done(seen) = operation.outcome else { return None };
        let fits = match operation.call {
            Call::Read => {
                state.tag.is_none()
                    && !self.made_tags.contains(&seen.tag)
                    && (state.title, state.completed) == (seen.title, seen.completed)
            }
            Call::Toggle => (state.title, !state.completed) == (seen.title, seen.completed),
            Call::Write(title) => (title, state.completed) == (seen.title, seen.completed),
            Call::CompareAndSet(tag, title) => {
                state.tag == Some(tag) && (title, state.completed) == (seen.title, seen.completed)
            }
        };
        fits.then_some(State { tag: Some(seen.tag), title: seen.title, completed: seen.completed })
    }

    fn push_unanswered(
        &self,
        from: &Configuration,
        candidates: &[usize],
        horizon: u64,
        stack: &mut Vec<Configuration>,
    ) {
        let state = from.key.state;
        let mut push = |state: State, toggles: usize, hidden_writes: usize| {
            let mut next = from.clone();
            if self.may_leave(&next.key, state) {
                next.key.state = state;
                next.toggles_used += toggles;
                next.hidden_writes_used += hidden_writes;
                stack.push(next);
            }
        };
        let has_begun = |start: &u64| *start <= horizon;
        // A title that no response shows can only explain why a compare-and-set was refused.
        let is_refused_here = |index: &usize| {
            let Operation { call, outcome, .. } = self.answered[*index];
            outcome == Outcome::Refused && matches!(call, Call::CompareAndSet(tag, _) if state.tag == Some(tag))
        };
        if candidates.iter().any(is_refused_here) {
            if self.hidden_writes.get(from.hidden_writes_used).is_some_and(has_begun) {
                push(State { tag: None, title: Title::MAX, ..state }, 0, 1);
            }
            for (start, tag, title) in &self.hidden_compare_and_sets {
                if has_begun(start) && state.tag == Some(*tag) {
                    push(State { tag: None, title: *title, ..state }, 0, 0);
                }
            }
        }
        if self.toggles.get(from.toggles_used).is_some_and(has_begun) {
            push(State { tag: None, completed: !state.completed, ..state }, 1, 0);
        }
        for (_, tag, title) in self.shown_writes.iter().take_while(|(start, ..)| has_begun(start)) {
            let has_taken_effect = state.title == *title || is_explained(&from.key, self.title_observers.get(title));
            if !has_taken_effect && (tag.is_none() || state.tag == *tag) {
                push(State { tag: None, title: *title, ..state }, 0, 0);
            }
        }
    }

    /// Whether every response that shows what `next` replaces is in the order.
    fn may_leave(&self, key: &Key, next: State) -> bool {
        let old = key.state;
        (old.title == next.title || is_explained(key, self.title_observers.get(&old.title)))
            && old.tag.is_none_or(|tag| next.tag == Some(tag) || is_explained(key, self.tag_observers.get(&tag)))
    }

    fn explain(&self, furthest: &Key) -> String {
        let (candidates, horizon) = self.candidates(furthest);
        let begun = |starts: &[u64]| starts.iter().filter(|start| **start <= horizon).count();
        let list = |indices: &[usize]| {
            indices.iter().map(|index| format!("  {:?}\n", self.answered[*index])).collect::<String>()
        };
        let recent: Vec<usize> = (furthest.prefix.saturating_sub(8)..furthest.prefix).collect();
        format!(
            "{} of {} responses are explained, and none of the next fits.\n{:?}\nNext:\n{}Before:\n{}Unanswered: \
             {} toggles, {} writes that no response shows",
            furthest.length(),
            self.answered.len(),
            furthest.state,
            list(&candidates),
            list(&recent),
            begun(&self.toggles),
            begun(&self.hidden_writes),
        )
    }
}

fn is_explained(key: &Key, observers: Option<&Vec<usize>>) -> bool {
    observers.into_iter().flatten().rev().take_while(|index| **index >= key.prefix).all(|index| key.contains(*index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::random::Random;

    const INITIAL: Seen = seen(0, 0, false);

    const fn seen(tag: Tag, title: Title, completed: bool) -> Seen {
        Seen { tag, title, completed }
    }

    /// An operation with a response, from one time to another.
    fn done(times: (u64, u64), call: Call, tag: Tag, title: Title, completed: bool) -> Operation {
        Operation { call, outcome: Outcome::Done(seen(tag, title, completed)), start: times.0, end: times.1 }
    }

    fn refused(times: (u64, u64), tag: Tag, title: Title) -> Operation {
        let call = Call::CompareAndSet(tag, title);
        Operation { call, outcome: Outcome::Refused, start: times.0, end: times.1 }
    }

    fn unknown(start: u64, call: Call) -> Operation {
        Operation { call, outcome: Outcome::Unknown, start, end: 0 }
    }

    fn is_linearizable(history: &[Operation]) -> bool {
        match check(INITIAL, history, 100_000) {
            Ok(()) => true,
            Err(Failure::NotLinearizable(_)) => false,
            Err(Failure::TooManyConfigurations) => panic!("the search is too long for {history:?}"),
        }
    }

    #[test]
    fn history_when_an_order_explains_it_is_accepted() {
        use Call::{CompareAndSet, Read, Toggle, Write};
        let read_after_write = [done((1, 2), Write(1), 1, 1, false), done((3, 4), Read, 1, 1, false)];
        let read_beside_write = [done((1, 9), Write(1), 1, 1, false), done((2, 3), Read, 0, 0, false)];
        let writes_cross = [
            done((1, 9), Write(1), 1, 1, false),
            done((2, 8), Write(2), 2, 2, false),
            done((3, 4), Read, 2, 2, false),
            done((10, 11), Read, 1, 1, false),
        ];
        let sets_and_is_refused =
            [done((1, 5), CompareAndSet(0, 1), 1, 1, false), refused((2, 6), 0, 2), done((7, 8), Toggle, 2, 1, true)];
        let unanswered_write_is_late = [
            unknown(1, Write(1)),
            done((2, 3), Read, 0, 0, false),
            done((4, 5), Write(2), 2, 2, false),
            done((6, 7), Read, 3, 1, false),
        ];
        let unanswered_write_never_happens = [unknown(1, Write(1)), done((2, 3), Read, 0, 0, false)];
        let unanswered_write_is_never_seen = [unknown(1, Write(1)), refused((2, 3), 0, 2)];
        let unanswered_set_is_never_seen = [unknown(1, CompareAndSet(0, 1)), refused((2, 3), 0, 2)];
        let unanswered_toggles =
            [unknown(1, Toggle), unknown(1, Toggle), done((2, 3), Read, 1, 0, true), done((4, 5), Read, 2, 0, false)];
        for history in [
            &read_after_write[..],
            &read_beside_write,
            &writes_cross,
            &sets_and_is_refused,
            &unanswered_write_is_late,
            &unanswered_write_never_happens,
            &unanswered_write_is_never_seen,
            &unanswered_set_is_never_seen,
            &unanswered_toggles,
        ] {
            assert!(is_linearizable(history), "{history:#?}");
        }
    }

    #[test]
    fn history_when_no_order_explains_it_is_refused() {
        use Call::{CompareAndSet, Read, Toggle, Write};
        let stale_read = [done((1, 2), Write(1), 1, 1, false), done((3, 4), Read, 0, 0, false)];
        let lost_write = [
            done((1, 2), Write(1), 1, 1, false),
            done((3, 4), Toggle, 2, 0, true), //
        ];
        let reads_go_back =
            [done((1, 9), Write(1), 1, 1, false), done((2, 3), Read, 1, 1, false), done((4, 5), Read, 0, 0, false)];
        let condition_is_ignored = [
            done((1, 2), Write(1), 1, 1, false),
            done((3, 4), CompareAndSet(0, 2), 2, 2, false), //
        ];
        let both_sets_succeed =
            [done((1, 5), CompareAndSet(0, 1), 1, 1, false), done((2, 6), CompareAndSet(0, 2), 2, 2, false)];
        let refused_without_reason = [refused((1, 2), 0, 1)];
        let unanswered_write_happens_twice = [
            unknown(1, Write(1)),
            done((2, 3), Read, 1, 1, false),
            done((4, 5), Write(2), 2, 2, false),
            done((6, 7), Read, 3, 1, false),
        ];
        let answered_write_happens_twice = [done((1, 9), Write(1), 2, 1, false), done((2, 3), Read, 1, 1, false)];
        let unanswered_toggle_happens_twice =
            [unknown(1, Toggle), done((2, 3), Read, 1, 0, true), done((4, 5), Read, 2, 0, false)];
        let unanswered_write_is_early = [done((1, 2), Read, 1, 1, false), unknown(3, Write(1))];
        let tag_names_two_states = [done((1, 2), Write(1), 1, 1, false), done((3, 4), Write(2), 1, 2, false)];
        let tag_comes_back = [
            unknown(1, Toggle),
            unknown(1, Toggle),
            done((2, 3), Read, 1, 0, true),
            done((4, 5), Write(1), 2, 1, false),
            done((6, 7), Read, 1, 0, true),
        ];
        for history in [
            &stale_read[..],
            &lost_write,
            &reads_go_back,
            &condition_is_ignored,
            &both_sets_succeed,
            &refused_without_reason,
            &unanswered_write_happens_twice,
            &answered_write_happens_twice,
            &unanswered_toggle_happens_twice,
            &unanswered_write_is_early,
            &tag_names_two_states,
            &tag_comes_back,
        ] {
            assert!(!is_linearizable(history), "{history:#?}");
        }
    }

    #[test]
    fn search_when_it_takes_too_long_is_given_up() {
        let history = [done((1, 2), Call::Write(1), 1, 1, false), done((3, 4), Call::Read, 1, 1, false)];
        assert_eq!(check(INITIAL, &history, 2), Err(Failure::TooManyConfigurations));
    }

    /// Tries every order and every choice of unanswered operations.
    fn has_order(state: State, used: &[Tag], left: &[Operation]) -> bool {
        let is_answered = |operation: &Operation| operation.outcome != Outcome::Unknown;
        if !left.iter().any(is_answered) {
            return true;
        }
        let horizon = left.iter().filter(|operation| is_answered(operation)).map(|operation| operation.end).min();
        let candidates = (0..left.len()).filter(|index| Some(left[*index].start) <= horizon);
        candidates.into_iter().any(|index| {
            let rest: Vec<Operation> = [&left[..index], &left[index + 1..]].concat();
            let Operation { call, outcome, .. } = left[index];
            let after = |title, completed| match outcome {
                Outcome::Done(seen)
                    if used.contains(&seen.tag) || (title, completed) != (seen.title, seen.completed) =>
                {
                    None
                }
                Outcome::Done(seen) => Some(State { tag: Some(seen.tag), title, completed }),
                _ => Some(State { tag: None, title, completed }),
            };
            let next = match (call, outcome) {
                (Call::Read, Outcome::Done(seen)) if state.tag == Some(seen.tag) => {
                    ((state.title, state.completed) == (seen.title, seen.completed)).then_some(state)
                }
                (Call::Read, Outcome::Done(_)) if state.tag.is_none() => after(state.title, state.completed),
                (Call::Read, _) => None,
                (Call::CompareAndSet(tag, _), Outcome::Refused) => (state.tag != Some(tag)).then_some(state),
                (Call::CompareAndSet(tag, _), _) if state.tag != Some(tag) => None,
                (Call::CompareAndSet(_, title) | Call::Write(title), _) => after(title, state.completed),
                (Call::Toggle, _) => after(state.title, !state.completed),
            };
            next.is_some_and(|next| has_order(next, &[used, next.tag.as_slice()].concat(), &rest))
        })
    }

    /// What some clients see of a task that behaves: each operation takes effect between its start and its end.
    fn simulate(random: &mut Random) -> Vec<Operation> {
        let mut history: Vec<Operation> = Vec::new();
        let mut effects = Vec::new();
        for _ in 0..2 + random.below(2) {
            let mut now = 0;
            for _ in 0..1 + random.below(3) {
                let start = now + 1 + random.below(6) as u64;
                let effect = start + random.below(6) as u64;
                now = effect + random.below(6) as u64;
                effects.push((effect, history.len()));
                let outcome = if random.below(4) == 0 { Outcome::Unknown } else { Outcome::Refused };
                history.push(Operation { call: Call::Read, outcome, start, end: now });
            }
        }
        effects.sort_unstable();
        let (mut state, mut known) = (INITIAL, vec![(0, INITIAL.tag)]);
        for (number, (effect, index)) in (1..).zip(effects) {
            let Operation { start, end, outcome, .. } = history[index];
            let tags: Vec<Tag> = known.iter().filter(|(since, _)| *since < start).map(|(_, tag)| *tag).collect();
            let call = match random.below(4) {
                0 => Call::Read,
                1 => Call::Toggle,
                2 => Call::Write(number),
                _ => Call::CompareAndSet(*random.pick(&tags), number),
            };
            let is_unknown = outcome == Outcome::Unknown;
            // What is unanswered happens late or never; here, at its moment or never.
            let happens = !is_unknown || random.below(2) == 0;
            let next = match call {
                Call::Read => Some(state),
                Call::Toggle => Some(seen(number, state.title, !state.completed)),
                Call::CompareAndSet(tag, _) if tag != state.tag => None,
                Call::Write(title) | Call::CompareAndSet(_, title) => Some(seen(number, title, state.completed)),
            };
            state = next.filter(|_| happens).unwrap_or(state);
            let outcome = next.map_or(Outcome::Refused, Outcome::Done);
            if !is_unknown && next.is_some() {
                known.push((end, state.tag));
            }
            let outcome = if is_unknown { Outcome::Unknown } else { outcome };
            history[index] = Operation { call, outcome, start, end };
            assert!(start <= effect && effect <= end);
        }
        history
    }

    /// Falsifies one response. `None` if a client would then compare with a tag that it had not seen.
    fn falsify(random: &mut Random, history: &[Operation]) -> Option<Vec<Operation>> {
        let mut history = history.to_vec();
        let other = history[random.below(history.len())].outcome;
        let index = random.below(history.len());
        let operation = &mut history[index];
        match (&mut operation.outcome, operation.call) {
            (Outcome::Done(_), Call::CompareAndSet(..)) if random.below(2) == 0 => operation.outcome = Outcome::Refused,
            (Outcome::Done(seen), _) => match random.below(3) {
                0 => seen.completed = !seen.completed,
                1 => seen.tag = random.below(9) as Tag,
                _ => {
                    let Outcome::Done(other) = other else { return None };
                    *seen = other;
                }
            },
            (Outcome::Refused, Call::CompareAndSet(_, title)) => {
                operation.outcome = Outcome::Done(seen(random.below(9) as Tag, title, random.below(2) == 0));
            }
            _ => return None,
        }
        let has_seen = |tag: Tag, start: u64| {
            tag == INITIAL.tag
                || history.iter().any(|operation| {
                    operation.end < start && matches!(operation.outcome, Outcome::Done(seen) if seen.tag == tag)
                })
        };
        let is_proper = |operation: &Operation| match operation.call {
            Call::CompareAndSet(tag, _) => has_seen(tag, operation.start),
            _ => true,
        };
        history.iter().all(is_proper).then_some(history)
    }

    #[test]
    fn checker_when_histories_are_random_agrees_with_trying_every_order() {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut verdicts = [0, 0];
        for _ in 0..20_000 {
            let history = simulate(&mut random);
            assert!(is_linearizable(&history), "{history:#?}");
            let Some(history) = falsify(&mut random, &history) else { continue };
            let state = State { tag: Some(INITIAL.tag), title: INITIAL.title, completed: INITIAL.completed };
            let expected = has_order(state, &[INITIAL.tag], &history);
            assert_eq!(is_linearizable(&history), expected, "{history:#?}");
            verdicts[usize::from(expected)] += 1;
        }
        assert!(verdicts.iter().all(|count| *count > 500), "{verdicts:?} histories were not linearizable, and were");
    }
}
