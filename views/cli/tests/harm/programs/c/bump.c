// An allocator without locks: it may be interrupted anywhere by a handler that calls it. Objects have their size in front and
// are taken from the end of one array; of those that are freed only the last is used again.
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static _Alignas(64) char memory[256 << 20];
static size_t used;
long bump_calls;

static size_t whole_of(size_t size) { return (size + 16 + 63) & ~(size_t)63; }

void *malloc(size_t size) {
    size_t whole = whole_of(size);
    size_t at = __atomic_fetch_add(&used, whole, __ATOMIC_RELAXED);
    __atomic_add_fetch(&bump_calls, 1, __ATOMIC_RELAXED);
    if (at + whole > sizeof memory) {
        errno = ENOMEM;
        return NULL;
    }
    *(size_t *)(memory + at) = size;
    return memory + at + 16;
}

void free(void *made) {
    if (!made) return;
    size_t size = ((size_t *)made)[-2];
    memset(made, 0xdd, size);
    // The last one is given back.
    size_t at = (size_t)((char *)made - 16 - memory), end = at + whole_of(size);
    __atomic_compare_exchange_n(&used, &end, at, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

void *calloc(size_t count, size_t size) {
    void *made = malloc(count * size);
    return made ? memset(made, 0, count * size) : NULL;
}

void *realloc(void *old, size_t size) {
    void *made = malloc(size);
    if (made && old) {
        size_t before = ((size_t *)old)[-2];
        memcpy(made, old, before < size ? before : size);
        free(old);
    }
    return made;
}

void *memalign(size_t align, size_t size) {
    char *made = malloc(size + align + 16);
    char *at = (char *)(((uintptr_t)made + align - 1) & ~(align - 1));
    if (at != made) {
        at = (char *)(((uintptr_t)made + 16 + align - 1) & ~(align - 1));
        ((size_t *)at)[-2] = size;
    }
    return at;
}

void *aligned_alloc(size_t align, size_t size) { return memalign(align, size); }
size_t malloc_usable_size(void *made) { return made ? ((size_t *)made)[-2] : 0; }
