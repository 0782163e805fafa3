//! A history: what clients asked for, when, and what they were told.

/// An entity tag, as a number.
pub type Tag = u32;
/// A title, as a number.
pub type Title = u32;

/// What a response shows of the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seen {
    pub tag: Tag,
    pub title: Title,
    pub completed: bool,
}

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Read,
    Toggle,
    /// Sets a title that no other call sets.
    Write(Title),
    /// The same if the task has this tag, which the client saw before.
    CompareAndSet(Tag, Title),
}

/// What a client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The task after the operation.
    Done(Seen),
    /// The tag was another one.
    Refused,
    /// It took effect once at any time after its start, or never.
    Unknown,
}

/// One operation of a history. The times are of one clock.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    pub call: Call,
    pub outcome: Outcome,
    pub start: u64,
    /// Without a meaning if the outcome is unknown.
    pub end: u64,
}
