/* gives_back MODE [applied]: holds memory that one piece of advice is about, with the advice applied or not, and exits.
 * trim: free blocks between live ones. threshold: a top of the heap that is kept since a large block was freed.
 * pinned: few small objects among many that are gone. leak: objects that nobody frees. files: a mapped file.
 * cache, table: what looks like a leak and is none.
 * decay: freed objects, for an allocator that keeps them. */
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BLOCKS 4000
#define BLOCK_BYTES 16000
#define NOTES 12000
#define NOTE_BYTES 32

static char *blocks[BLOCKS];
static char *notes[NOTES], *between[NOTES];
static char elsewhere[NOTES][NOTE_BYTES];
static int applied;

__attribute__((noinline)) static void fill(void) {
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(BLOCK_BYTES);
        memset(blocks[i], 1, BLOCK_BYTES);
    }
}

static void trim(void) {
    fill();
    for (int i = 0; i < BLOCKS; i++)
        if (i % 8 && i != BLOCKS - 1) free(blocks[i]);
    if (applied) malloc_trim(0);
}

static void threshold(void) {
    char *large = malloc(30 << 20);
    memset(large, 1, 30 << 20);
    free(large);
    fill();
    for (int i = BLOCKS; i-- > BLOCKS / 4;) free(blocks[i]);
}

__attribute__((noinline)) static char *keep_note(int i) {
    return applied ? elsewhere[i] : malloc(NOTE_BYTES);
}

static void pinned(void) {
    for (int i = 0; i < NOTES; i++) {
        notes[i] = memset(keep_note(i), 2, NOTE_BYTES);
        between[i] = memset(malloc(4000), 1, 4000);
    }
    for (int i = 0; i < NOTES; i++) free(between[i]);
}

__attribute__((noinline)) static void serve(int i) {
    char *reply = memset(malloc(900), 1, 900);
    if (applied || i % 4) free(reply);
}

static void leak(void) {
    for (int i = 0; i < 64000; i++) {
        serve(i);
        if (i % 160 == 0) usleep(1000);
    }
}

// A cache that grows to its size and then evicts the oldest.
static void cache(void) {
    static char *entries[8000];
    for (int i = 0; i < 32000; i++) {
        free(entries[i % 8000]);
        entries[i % 8000] = memset(malloc(900), 1, 900);
        if (i % 160 == 0) usleep(1000);
    }
}

// A table that is built at the start and used for long.
static void table(void) {
    fill();
    for (int i = 0; i < 300; i++) {
        free(malloc(100 + i));
        usleep(1000);
    }
}

static void files(const char *name) {
    size_t length = 32 << 20;
    int file = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || ftruncate(file, length)) abort();
    char *mapped = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED) abort();
    memset(mapped, 1, length);
    if (applied) madvise(mapped, length, MADV_DONTNEED);
    unlink(name);
}

static void decay(void) {
    fill();
    for (int i = 0; i < BLOCKS; i++)
        if (i % 8 || i > BLOCKS / 2) free(blocks[i]);
}

int main(int count, char **arguments) {
    const char *mode = count > 1 ? arguments[1] : "";
    applied = count > 2 && !strcmp(arguments[2], "applied");
    if (!strcmp(mode, "trim")) trim();
    else if (!strcmp(mode, "threshold")) threshold();
    else if (!strcmp(mode, "pinned")) pinned();
    else if (!strcmp(mode, "leak")) leak();
    else if (!strcmp(mode, "files")) files(arguments[count - 1]);
    else if (!strcmp(mode, "decay")) decay();
    else if (!strcmp(mode, "cache")) cache();
    else if (!strcmp(mode, "table")) table();
    else return 2;
    _exit(0);
}
