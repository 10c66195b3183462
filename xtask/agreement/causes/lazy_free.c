/* MADV_FREE: pages stay until the kernel needs them, and are written again without a fault. */
#include "phase.h"

int main(void) {
    for (int round = 0; round < 4; round++) {
        char *memory = fresh(16 * MIB);
        write_pages(memory, 12 * MIB, 1);
        phase();
        CHECK(madvise(memory, 8 * MIB, MADV_FREE) == 0);
        phase();
        write_pages(memory, 16 * MIB, 2);
        phase();
        CHECK(madvise(memory, 10 * MIB, MADV_DONTNEED) == 0);
        phase();
        CHECK(munmap(memory, 16 * MIB) == 0);
    }
    return 0;
}
