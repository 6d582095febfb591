// The sixth translation unit: who owns what, for how long, and what another thread, a signal or a
// fork may do meanwhile.
#include "fixture.hpp"

#include <atomic>
#include <chrono>
#include <csignal>
#include <memory>
#include <poll.h>
#include <stdexcept>
#include <sys/time.h>
#include <sys/wait.h>
#include <thread>
#include <utility>

using namespace std::chrono_literals;

static void a_batch_outlives_its_ring()
{
    ringmsg::batch batch(4), kept(0);
    {
        receiver r;
        r.send_text("a");
        CHECK(r.ring.reap(batch, {.timeout = 5s}) == 1);
        kept = batch.keep();
        r.send_text("b");
        CHECK(r.ring.reap(batch, {.timeout = 5s}) == 1);
        CHECK(kept.size() == 1 && batch.size() == 1);
    }
    CHECK(kept.empty() && batch.empty() && batch.begin() == batch.end() && batch.native().empty());
    CHECK(kept.keep().empty() && kept.detach().empty());
    batch.release();

    // The batch also serves the next ring, and changes from one ring to another.
    receiver first, second;
    first.send_text("c");
    CHECK(first.ring.reap(batch, {.timeout = 5s}) == 1 && text(batch[0].payload()) == "c");
    second.send_text("d");
    CHECK(second.ring.reap(batch, {.timeout = 5s}) == 1 && text(batch[0].payload()) == "d");
    CHECK(first.ring.stats().buffers_held == 0 && second.ring.stats().buffers_held == 1);
}

static void a_pool_outlives_its_ring()
{
    auto ring = std::make_unique<ringmsg::ring>(config());
    ringmsg::pool pool(*ring);
    ringmsg::pool moved(std::move(pool));
    CHECK(moved.id() == 0 && !moved.memory().empty());
    pool = std::move(moved);
    ring.reset();
    CHECK(pool.memory().empty() && pool.id() == RINGMSG_POOL_NONE);
    CHECK(error_of([&] { pool.free(); }).code() == std::errc::operation_canceled);
}

static void a_destroyed_pool_in_use_stays_with_its_ring()
{
    receiver r;
    CHECK(error_of([&] { r.pool.free(); }).code() == std::errc::device_or_resource_busy);
    {
        ringmsg::pool gone(std::move(r.pool));
    }
    r.send_text("still here");
    CHECK(r.ring.reap(r.batch, {.timeout = 5s}) == 1 && text(r.batch[0].payload()) == "still here");
}

static void kept_records_are_released_once_by_any_thread()
{
    receiver r;
    r.send_text("kept");
    CHECK(r.ring.reap(r.batch, {.timeout = 5s}) == 1);
    ringmsg::batch kept = r.batch.keep();
    CHECK(r.batch.empty() && r.batch.capacity() == 16 && kept.capacity() == 1);
    CHECK(kept[0].metadata()->source_port == ntohs(r.source.sin_port));
    r.send_text("next");
    CHECK(r.ring.reap(r.batch, {.timeout = 5s}) == 1);
    CHECK(r.ring.stats().buffers_held == 2 && text(kept[0].payload()) == "kept");
    std::thread([batch = std::move(kept)] { CHECK(text(batch[0].payload()) == "kept"); }).join();
    CHECK(r.ring.stats().buffers_held == 1 && kept.empty());
}

static void detached_records_are_released_by_the_caller()
{
    receiver r;
    r.send_text("mine");
    CHECK(r.ring.reap(r.batch, {.timeout = 5s}) == 1);
    const std::span<const ringmsg_record> records = r.batch.detach();
    CHECK(records.size() == 1 && r.batch.empty());
    r.batch.release();
    CHECK(r.ring.stats().buffers_held == 1);
    r.ring.release(records);
    CHECK(r.ring.stats().buffers_held == 0);
    CHECK(error_of([&] { r.ring.release(records); }).code() == std::errc::invalid_argument);
}

static void moving_transfers_ownership()
{
    receiver r;
    r.send_text("m");
    CHECK(r.ring.reap(r.batch, {.timeout = 5s}) == 1);
    ringmsg::batch other(std::move(r.batch));
    CHECK(r.batch.empty() && r.batch.capacity() == 0 && other.size() == 1);
    ringmsg::ring ring(std::move(r.ring));
    CHECK(r.ring.native_handle() == nullptr && text(other[0].payload()) == "m");
    CHECK(error_of([&] { r.ring.submit(); }).code() == std::errc::invalid_argument);
    CHECK(error_of([&] { r.ring.reap(r.batch); }).code() == std::errc::invalid_argument);
    r.ring.wake();
    r.ring.close();
    other = ringmsg::batch(2);
    CHECK(ring.stats().buffers_held == 0);
    r.ring = std::move(ring);
    r.send_text("n");
    CHECK(collect(r.ring, other, 1) == "n");
}

static void the_enabling_thread_becomes_the_owner()
{
    sockets s;
    ringmsg::ring ring(config(RINGMSG_SETUP_R_DISABLED));
    ringmsg::pool pool(ring);
    CHECK(error_of([&] { ring.recvmsg_multishot(pool, s.receiver); }).code().value() == EBADFD);
    std::thread([&] {
        ring.enable();
        ring.recvmsg_multishot(pool, s.receiver);
        ringmsg::batch batch(1);
        s.send_text("t");
        CHECK(collect(ring, batch, 1) == "t");
    }).join();
}

static void a_wake_makes_ring_fd_readable_and_ends_a_reap()
{
    receiver r;
    pollfd ready{r.ring.fd(), POLLIN, 0};
    CHECK(poll(&ready, 1, 0) == 0);
    r.ring.wake();
    CHECK(poll(&ready, 1, 5000) == 1);
    CHECK(r.ring.reap(r.batch) == 0);
}

static void signals_do_not_end_a_reap()
{
    static std::atomic<int> seen;
    seen = 0;
    struct sigaction action {};
    action.sa_handler = [](int) { seen++; };
    CHECK(sigaction(SIGALRM, &action, nullptr) == 0);
    const itimerval often{{0, 20000}, {0, 20000}}, never{};
    receiver r;
    const auto start = std::chrono::steady_clock::now();
    CHECK(setitimer(ITIMER_REAL, &often, nullptr) == 0);
    CHECK(r.ring.reap(r.batch, {.timeout = 300ms}) == 0);
    CHECK(setitimer(ITIMER_REAL, &never, nullptr) == 0);
    const auto elapsed = std::chrono::steady_clock::now() - start;
    CHECK(seen > 1 && elapsed >= 300ms && elapsed < 5s);
}

// close() while one thread reaps and another begins to: both end, and neither uses the freed ring.
static void closing_ends_every_reap()
{
    for (int round = 0; round < 100; round++) {
        ringmsg::ring ring(config(RINGMSG_SETUP_R_DISABLED));
        std::atomic<bool> enabled = false;
        auto reap_until_closed = [&](bool first) {
            if (first) {
                ring.enable();
                enabled = true;
            }
            while (!enabled)
                std::this_thread::yield();
            ringmsg::batch batch(1);
            std::error_code code;
            do
                ring.reap(batch, {}, code);
            while (code != std::errc::operation_canceled);
        };
        std::thread one(reap_until_closed, true), two(reap_until_closed, false);
        while (!enabled)
            std::this_thread::yield();
        std::this_thread::sleep_for(std::chrono::microseconds(round * 7 % 300));
        ring.close();
        CHECK(ring.native_handle() == nullptr);
        one.join();
        two.join();
        ring.close();
        CHECK(error_of([&] { ring.stats(); }).code() == std::errc::operation_canceled);
        if (mode != 0 && round == 20)
            break; // tearing down a bound ring from another thread is slow
    }
}

static void stack_unwinding_frees_everything()
{
    sockets s;
    try {
        receiver r;
        r.send_text("x");
        r.ring.reap(r.batch, {.timeout = 5s});
        ringmsg::batch kept = r.batch.keep();
        throw std::runtime_error("thrown");
    } catch (const std::runtime_error &) {
    }
}

static void a_forked_child_can_only_free()
{
    auto *r = new receiver;
    r->send_text("x");
    CHECK(r->ring.reap(r->batch, {.timeout = 5s}) == 1);
    const pid_t child = fork();
    if (child == 0) {
        std::error_code code;
        ringmsg::batch batch(1);
        r->ring.reap(batch, {}, code);
        delete r;
        _exit(code == std::errc::operation_not_permitted ? 0 : 1);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(text(r->batch[0].payload()) == "x");
    r->send_text("y");
    CHECK(collect(r->ring, r->batch, 1) == "y");
    delete r;
}

void lifetimes()
{
    a_batch_outlives_its_ring();
    a_pool_outlives_its_ring();
    a_destroyed_pool_in_use_stays_with_its_ring();
    kept_records_are_released_once_by_any_thread();
    detached_records_are_released_by_the_caller();
    moving_transfers_ownership();
    the_enabling_thread_becomes_the_owner();
    a_wake_makes_ring_fd_readable_and_ends_a_reap();
    signals_do_not_end_a_reap();
    closing_ends_every_reap();
    stack_unwinding_frees_everything();
    a_forked_child_can_only_free();
}
