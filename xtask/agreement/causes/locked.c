/* mlock, mlock2, mlockall: locked memory is filled at once; MLOCK_ONFAULT is not. */
#include "phase.h"

int main(void) {
    for (int round = 0; round < 3; round++) {
        char *memory = fresh(12 * MIB);
        CHECK(mlock(memory, 2 * MIB + 100) == 0);
        phase();
        CHECK(mlock2(memory + 3 * MIB, 2 * MIB, MLOCK_ONFAULT) == 0);
        write_pages(memory + 3 * MIB, MIB, 2);
        phase();
        CHECK(munlock(memory, 5 * MIB) == 0);
        char *locked = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0);
        CHECK(locked != MAP_FAILED);
        phase();
        CHECK(munmap(locked, MIB) == 0);
        CHECK(munmap(memory, 12 * MIB) == 0);
        /* All that is mapped from here on is filled, until it is switched off. The limit counts what is mapped. */
        if (mlockall(MCL_FUTURE) == 0) {
            char *future = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            CHECK(future != MAP_FAILED);
            phase();
            CHECK(munlockall() == 0);
            CHECK(munmap(future, MIB) == 0);
        }
        phase();
    }
    return 0;
}
