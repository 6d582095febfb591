// The second translation unit: the header can be included in both.
#include "check.hpp"

std::string text(std::span<const std::byte> bytes)
{
    return {reinterpret_cast<const char *>(bytes.data()), bytes.size()};
}

std::string collect(ringmsg::ring &ring, ringmsg::batch &batch, std::size_t length)
{
    using namespace std::chrono_literals;
    std::string all;
    while (all.size() < length) {
        CHECK(ring.reap(batch, {.timeout = 5s}) > 0);
        for (ringmsg::record record : batch)
            all += text(record.payload());
    }
    return all;
}

const std::error_category &category_in_other_unit() { return ringmsg::error_category(); }
