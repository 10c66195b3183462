/* readv and preadv: one call fills many ranges, the last one in part. */
#include "phase.h"
#include <sys/uio.h>

#define PARTS 16

int main(int count, char **arguments) {
    CHECK(count == 2);
    int file = file_of(arguments[1], 16 * MIB, 0);
    for (int round = 0; round < 4; round++) {
        char *memory = fresh(48 * MIB);
        struct iovec parts[PARTS];
        for (int part = 0; part < PARTS; part++) {
            parts[part] = (struct iovec){memory + (size_t)part * MIB + 100, (size_t)(part + 1) * 10 * PAGE};
        }
        CHECK(lseek(file, 0, SEEK_SET) == 0);
        CHECK(readv(file, parts, PARTS) > 0);
        phase();
        for (int part = 0; part < PARTS; part++) {
            parts[part] = (struct iovec){memory + 20 * MIB + (size_t)part * MIB, MIB - 3 * PAGE};
        }
        /* Four MiB before the end: only a part of them is filled. */
        CHECK(preadv(file, parts, PARTS, 12 * MIB) == (ssize_t)(4 * MIB));
        phase();
        CHECK(preadv2(file, parts + 6, 4, MIB, 0) > 0);
        phase();
        CHECK(munmap(memory, 48 * MIB) == 0);
        phase();
    }
    return 0;
}
