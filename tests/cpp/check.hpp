// What the translation units share.
#ifndef CHECK_HPP
#define CHECK_HPP

#include <cstdio>
#include <cstdlib>
#include <string>

#include <ringmsg.hpp>

#define CHECK(condition)                                                                     \
    do {                                                                                     \
        if (!(condition)) {                                                                  \
            std::fprintf(stderr, "%s:%d: not so: %s\n  (last error: %s)\n", __FILE__, __LINE__, \
                         #condition, ringmsg::last_error().c_str());                         \
            std::exit(1);                                                                    \
        }                                                                                    \
    } while (0)

// The failure that `call` throws.
template <class Call> std::system_error failure(Call call)
{
    try {
        call();
    } catch (const std::system_error &error) {
        return error;
    }
    std::fprintf(stderr, "nothing was thrown\n");
    std::exit(1);
}

std::string text(std::span<const std::byte> bytes);

// In the other translation unit: reaps until `wanted` payload bytes have come, and returns them.
std::string collect(ringmsg::ring &ring, ringmsg::batch &batch, std::size_t wanted);
const std::error_category &category_over_there();

// In the third: the tests of sending, which need no ring.
void sending();

#endif
