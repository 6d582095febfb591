// The second translation unit.
#include "check.hpp"

std::string text(std::span<const std::byte> bytes)
{
    return {reinterpret_cast<const char *>(bytes.data()), bytes.size()};
}

std::string collect(ringmsg::ring &ring, ringmsg::batch &batch, std::size_t wanted)
{
    using namespace std::chrono_literals;
    std::string all;
    while (all.size() < wanted) {
        CHECK(ring.reap(batch, {.timeout = 5s}) > 0);
        for (ringmsg::record record : batch)
            all += text(record.payload());
    }
    return all;
}

const std::error_category &category_over_there() { return ringmsg::error_category(); }
