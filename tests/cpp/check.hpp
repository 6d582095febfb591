// Shared by the translation units.
#ifndef CHECK_HPP
#define CHECK_HPP

#include <cstdio>
#include <cstdlib>
#include <string>

#include <ringmsg.hpp>

#define CHECK(condition)                                                                     \
    do {                                                                                     \
        if (!(condition)) {                                                                  \
            std::fprintf(stderr, "%s:%d: is false: %s\n", __FILE__, __LINE__, #condition);   \
            if (!ringmsg::last_error().empty())                                              \
                std::fprintf(stderr, "  (last error in this thread: %s)\n",                  \
                             ringmsg::last_error().c_str());                                 \
            std::exit(1);                                                                    \
        }                                                                                    \
    } while (0)

// The system_error that `call` throws.
template <class Call> std::system_error error_of(Call call)
{
    try {
        call();
    } catch (const std::system_error &error) {
        return error;
    }
    std::fprintf(stderr, "the call threw nothing\n");
    std::exit(1);
}

std::string text(std::span<const std::byte> bytes);

// Reaps until `length` payload bytes have arrived, and returns them. Defined in the other
// translation unit.
std::string collect(ringmsg::ring &ring, ringmsg::batch &batch, std::size_t length);
const std::error_category &category_in_other_unit();

// In the third: the tests of sending, which need no ring.
void sending();
// In the fifth, which belong to them.
void full_sockets();
// In the fourth: control messages in a slice, and the texts of the library.
void control();
// In the sixth: ownership, threads, signals, forks, on the engine and in the mode of fixture.hpp.
void lifetimes();

#endif
