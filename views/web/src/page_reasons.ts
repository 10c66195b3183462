// Why a page is in memory and what would return it: what its state says, and no more.

import type { PageObject } from "./data";
import { bytes, count } from "./format";

/** How allocators are asked for what they keep, by the names that reports have for them. */
const GIVE_BACK: Record<string, string> = {
  glibc: "malloc_trim(3) or M_TRIM_THRESHOLD of mallopt(3) gives it back",
  jemalloc: "its arena.i.purge or a shorter dirty_decay_ms gives it back",
  mimalloc: "mi_collect(true) or MIMALLOC_PURGE_DELAY gives it back",
  tcmalloc: "MallocExtension's ReleaseFreeMemory or TCMALLOC_RELEASE_RATE gives it back",
};

/** `objects` are null where they are not known one by one. */
export function reasonOf(state: string, objects: PageObject[] | null, pageBytes: number, allocator: string | null): string {
  const one = objects?.length === 1;
  const here = (objects ?? []).reduce((all, it) => all + it.bytes_here, 0);
  const live = objects ? `${count(objects.length)} live object${one ? "" : "s"} with ${bytes(here)} here` : "live objects";
  switch (state) {
    case "sparse":
      return `It cannot be returned: ${live} ${one ? "keeps" : "keep"} all ${bytes(pageBytes)} in memory. Free them, or place them with others that live as long.`;
    case "dense":
      return `It cannot be returned: ${live} ${one ? "is" : "are"} in use.`;
    case "retained":
      return `It can be returned: nothing lives on it, the allocator keeps it for later; ${GIVE_BACK[allocator ?? ""] ?? "the allocator's settings decide when it gives it back"}.`;
    case "metadata":
      return "It cannot be returned: the allocator keeps its own records here, as long as it has memory that they speak of.";
    case "allocator":
      return objects && objects.length > 0
        ? `It cannot be returned: at least ${live}. Objects were sampled, there may be more.`
        : "It is the allocator's. Objects were sampled: whether anything lives here is not known.";
    case "thread_stack":
      return "It is of a thread's stack, which is returned when the thread ends, not when the stack gets shorter.";
    case "other_anonymous":
      return "No object of malloc lies here: the program mapped it by itself, and it alone can return it, by munmap(2) or madvise(2).";
    case "file":
      return "It is of a file: the kernel drops it when memory is short and reads it again; a private copy that was written it can only move to swap.";
    case "shared_memory":
      return "It is shared memory: it stays as long as any process has it, or its file is there.";
    case "tracer":
      return "It is pagetrace's own: it is not there without a recording.";
    case "returned":
      return "It was in memory before and has been given back to the kernel.";
    case "never_touched":
      return "It is mapped and was never in memory: it costs nothing.";
    case "swapped":
      return "It is in swap and takes no memory.";
    case "in_use":
      return "Its allocator says that it is in use.";
    case "unexplained":
      return objects && objects.length > 0 ? `It holds ${live}.` : "It is in memory, and nothing in the trace says what for.";
    default:
      return objects && objects.length > 0 ? `It holds ${live}.` : "Nothing is mapped here at this moment.";
  }
}
