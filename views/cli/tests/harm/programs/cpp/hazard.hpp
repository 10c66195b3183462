// As `c/hazard.h`, for C++: what goes through operator new and delete counts by itself.
#ifndef HAZARD_HPP
#define HAZARD_HPP

#include <new>
#include "../c/hazard.h"

void *operator new(size_t size) {
    for (;;) {
        if (void *made = malloc(size ? size : 1)) {
            count_made();
            return made;
        }
        std::new_handler handler = std::get_new_handler();
        if (!handler) throw std::bad_alloc();
        handler();
    }
}

void operator delete(void *made) noexcept { drop(made); }
void operator delete(void *made, size_t) noexcept { drop(made); }

#endif
