//! The examples of the explanations in `crates/report/src/explain`, compiled and run with the others of
//! the documentation.

#[doc = include_str!("../crates/report/src/explain/leak.md")]
struct Leak;
#[doc = include_str!("../crates/report/src/explain/double-release.md")]
struct DoubleRelease;
#[doc = include_str!("../crates/report/src/explain/use-after-release.md")]
struct UseAfterRelease;
#[doc = include_str!("../crates/report/src/explain/not-owner.md")]
struct NotOwner;
#[doc = include_str!("../crates/report/src/explain/fd-replaced.md")]
struct FdReplaced;
#[doc = include_str!("../crates/report/src/explain/already-owned.md")]
struct AlreadyOwned;
#[doc = include_str!("../crates/report/src/explain/dropped-by-non-owner.md")]
struct DroppedByNonOwner;
#[doc = include_str!("../crates/report/src/explain/unclaimed.md")]
struct Unclaimed;
#[doc = include_str!("../crates/report/src/explain/in-use.md")]
struct InUse;
#[doc = include_str!("../crates/report/src/explain/duplicate-give.md")]
struct DuplicateGive;
#[doc = include_str!("../crates/report/src/explain/is-split.md")]
struct IsSplit;
#[doc = include_str!("../crates/report/src/explain/mismatched-halves.md")]
struct MismatchedHalves;
#[doc = include_str!("../crates/report/src/explain/no-parent.md")]
struct NoParent;
#[doc = include_str!("../crates/report/src/explain/not-a-child.md")]
struct NotAChild;
#[doc = include_str!("../crates/report/src/explain/not-open.md")]
struct NotOpen;
#[doc = include_str!("../crates/report/src/explain/finalizer-failed.md")]
struct FinalizerFailed;
#[doc = include_str!("../crates/report/src/explain/finalizer-panicked.md")]
struct FinalizerPanicked;
#[doc = include_str!("../crates/report/src/explain/cancelled.md")]
struct Cancelled;
#[doc = include_str!("../crates/report/src/explain/task-exiting.md")]
struct TaskExiting;
#[doc = include_str!("../crates/report/src/explain/parent-exiting.md")]
struct ParentExiting;
