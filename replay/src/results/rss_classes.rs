//! What the RSS of a process consists of.

/// Resident bytes by class. Their sum is the kernel's RSS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RssClasses {
    /// Usable bytes of live objects on resident pages.
    pub live_objects: i64,
    /// The rest of pages with live objects that are not sparse.
    pub slack: i64,
    /// The rest of sparse pages.
    pub pinned: i64,
    /// Pages of the allocator without live bytes that have held an object before.
    pub retained: i64,
    /// Headers of live objects and the allocator's own structures.
    pub metadata: i64,
    /// Where objects are sampled, slack, pinned, retained and metadata in one, since they cannot be told apart.
    pub allocator_rest: i64,
    /// Whether it is so.
    pub sampled: bool,
    /// Stacks of threads.
    pub thread_stacks: i64,
    /// Anonymous memory that is none of the above.
    pub other_anonymous: i64,
    /// Code of programs and libraries.
    pub file_text: i64,
    /// Data of programs and libraries with their bss.
    pub file_data: i64,
    /// Other mapped files.
    pub file_mapped: i64,
    /// Memory shared with other processes.
    pub shared_memory: i64,
    /// The tracer's own memory.
    pub tracer: i64,
    /// The rest. Negative where the scan saw more than the kernel's figure has.
    pub unexplained: i64,
}

impl RssClasses {
    /// The classes by their names in reports.
    #[must_use]
    pub fn named(&self) -> Vec<(&'static str, i64)> {
        let apart =
            [("slack", self.slack), ("pinned", self.pinned), ("retained", self.retained), ("metadata", self.metadata)];
        let in_one = [("allocator_rest", self.allocator_rest)];
        let of_allocator = if self.sampled { &in_one[..] } else { &apart[..] };
        let others = [
            ("thread_stacks", self.thread_stacks),
            ("other_anonymous", self.other_anonymous),
            ("file_text", self.file_text),
            ("file_data", self.file_data),
            ("file_mapped", self.file_mapped),
            ("shared_memory", self.shared_memory),
            ("tracer", self.tracer),
            ("unexplained", self.unexplained),
        ];
        [&[("live_objects", self.live_objects)][..], of_allocator, &others].concat()
    }

    /// The sum: the kernel's RSS.
    #[must_use]
    pub fn sum(&self) -> i64 {
        self.named().iter().map(|(_, bytes)| bytes).sum()
    }
}
