/* Huge pages: one fault fills 2 MiB, and a part of a huge page may be given back. */
#include "phase.h"

#define HUGE_PAGE (2 * MIB)

int main(void) {
    for (int round = 0; round < 4; round++) {
        char *memory = fresh(34 * MIB);
        char *aligned = (char *)(((uintptr_t)memory + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
        CHECK(madvise(aligned, 16 * MIB, MADV_HUGEPAGE) == 0);
        for (size_t at = 0; at < 24 * MIB; at += HUGE_PAGE) {
            aligned[at + 5 * PAGE] = 1;
        }
        phase();
        CHECK(madvise(aligned + MIB, 6 * MIB + 3 * PAGE, MADV_DONTNEED) == 0);
        phase();
        write_pages(aligned, 32 * MIB, 4);
        phase();
        CHECK(madvise(aligned + 16 * MIB, 8 * MIB, MADV_NOHUGEPAGE) == 0);
        CHECK(munmap(memory, (size_t)(aligned - memory) + 3 * MIB) == 0);
        phase();
        CHECK(munmap(aligned + 3 * MIB, 34 * MIB - (size_t)(aligned - memory) - 3 * MIB) == 0);
    }
    return 0;
}
