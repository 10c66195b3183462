/* Zero page: memory that is read before it is written costs nothing until then. */
#include "phase.h"

int main(void) {
    for (int round = 0; round < 4; round++) {
        char *memory = fresh(16 * MIB);
        write_pages(memory, 4 * MIB, 1);
        read_pages(memory, 16 * MIB, 1);
        phase();
        write_pages(memory + 4 * MIB, 6 * MIB, 1);
        phase();
        write_pages(memory, 16 * MIB, 2);
        phase();
        CHECK(munmap(memory, 16 * MIB) == 0);
        phase();
    }
    return 0;
}
