/* brk: the heap grows and shrinks, and grows again over what was there. */
#include "phase.h"

int main(void) {
    for (int round = 0; round < 4; round++) {
        char *start = sbrk(0);
        CHECK(sbrk(12 * MIB) == start);
        write_pages(start, 12 * MIB, 1);
        phase();
        CHECK(sbrk(-(intptr_t)(8 * MIB + 5 * PAGE)) != (void *)-1);
        phase();
        CHECK(sbrk(6 * MIB) != (void *)-1);
        write_pages(start, 8 * MIB, 2);
        phase();
        CHECK(brk(start) == 0);
        phase();
    }
    return 0;
}
