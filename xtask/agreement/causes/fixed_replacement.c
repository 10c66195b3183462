/* MAP_FIXED: a new mapping takes the place of an old one, and its pages with it. */
#include "phase.h"

static void replace(char *at, size_t bytes, int protection) {
    CHECK(mmap(at, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at);
}

int main(void) {
    char *memory = fresh(24 * MIB);
    for (int round = 0; round < 4; round++) {
        write_pages(memory, 24 * MIB, 1);
        phase();
        replace(memory + 2 * MIB + PAGE, 9 * MIB, PROT_READ | PROT_WRITE);
        phase();
        write_pages(memory, 16 * MIB, 3);
        CHECK(mprotect(memory + 12 * MIB, 4 * MIB, PROT_READ) == 0);
        phase();
        replace(memory + 10 * MIB, 8 * MIB, PROT_NONE);
        phase();
        replace(memory, 24 * MIB, PROT_READ | PROT_WRITE);
    }
    return 0;
}
