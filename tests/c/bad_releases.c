/* Releasing a record twice, a forged or stale record, or a record of a freed pool is refused and
 * releases nothing. A pool of another ring is refused. */
#include "bad_input.h"

static void double_and_forged_releases_are_refused(void)
{
    set_up();
    arm();
    receive(4);
    /* One bad record at any index prevents the whole release. */
    for (int at = 0; at < 4; at++) {
        struct ringmsg_record batch[4], *bad = &batch[at];
        memcpy(batch, records, sizeof batch);
        *bad = records[(at + 1) % 4]; /* twice in one array */
        REFUSED(ringmsg_release(fixture.ring, batch, 4), EINVAL);
        *bad = records[at], bad->generation++;
        REFUSED(ringmsg_release(fixture.ring, batch, 4), EINVAL);
        *bad = records[at], bad->generation = 0;
        REFUSED(ringmsg_release(fixture.ring, batch, 4), EINVAL);
        *bad = records[at], bad->segment = 1;
        REFUSED(ringmsg_release(fixture.ring, batch, 4), EINVAL);
        *bad = records[at], bad->segment = 0xffff;
        REFUSED(ringmsg_release(fixture.ring, batch, 4), EINVAL);
        *bad = records[at], bad->buffer = 0xffff;
        REFUSED(ringmsg_release(fixture.ring, batch, 4), EINVAL);
        *bad = records[at], bad->pool = 1;
        REFUSED(ringmsg_release(fixture.ring, batch, 4), EINVAL);
        *bad = records[at], bad->pool = RINGMSG_POOL_NONE;
        REFUSED(ringmsg_release(fixture.ring, batch, 4), EINVAL);
        EQUAL(stats_of(fixture.ring).buffers_held, 4);
        check_ring_still_works();
    }
    /* ringmsg_next releases nothing and reaps nothing. */
    struct ringmsg_wait wait = wait_ms(50);
    struct ringmsg_record twice[2] = {records[0], records[0]};
    SYS(send(fixture.sender, "hello", 5, 0));
    REFUSED(ringmsg_next(fixture.ring, twice, 2, twice, NULL, 2, &wait), EINVAL);
    EQUAL(stats_of(fixture.ring).buffers_held, 4);
    EQUAL(reap_one(fixture.ring).result, 5);
    /* Records without a buffer are skipped. */
    struct ringmsg_record mixed[3] = {{.flags = RINGMSG_RECORD_FINAL, .pool = 77}, records[0], {.flags = 0}};
    OK(ringmsg_release(fixture.ring, mixed, 3));
    REFUSED(ringmsg_release(fixture.ring, records, 1), EINVAL);
    OK(ringmsg_release(fixture.ring, records + 1, 3));
    REFUSED(ringmsg_release(fixture.ring, records + 1, 3), EINVAL);
    EQUAL(stats_of(fixture.ring).buffers_held, 1);
    /* A stale record names the same buffer in an earlier use. */
    struct ringmsg_record stale = records[3];
    for (int tries = 0; tries < 100; tries++) {
        receive(1);
        if (records[0].buffer == stale.buffer)
            break;
        OK(ringmsg_release(fixture.ring, records, 1));
    }
    EQUAL(records[0].buffer, stale.buffer);
    REFUSED(ringmsg_release(fixture.ring, &stale, 1), EINVAL);
    REFUSED(ringmsg_take_fds(fixture.ring, &stale, (int[1]){0}, 1), EINVAL);
    EQUAL(ringmsg_take_fds(fixture.ring, records, (int[1]){0}, 1), 0);
    OK(ringmsg_release(fixture.ring, records, 1));
    check_ring_still_works();
    tear_down();
}

static void segments_are_released_once_each(void)
{
    static char train[4 * 100];
    set_up();
    OK(ringmsg_socket_enable(fixture.receiver, RINGMSG_META_SEGMENT_SIZE));
    fixture.pool = make_pool(fixture.ring, fixture.receiver, 4, 0);
    OK(ringmsg_recvmsg_multishot(fixture.ring, fixture.pool, fixture.receiver, 0, RINGMSG_RECV_SPLIT, 1));
    send_train(fixture.sender, train, sizeof train, 100);
    for (int have = 0; have < 4;)
        have += reap_ms(fixture.ring, records + have, (uint32_t)(4 - have), 2000);
    EQUAL(stats_of(fixture.ring).buffers_held, 1);
    OK(ringmsg_release(fixture.ring, records + 1, 1));
    REFUSED(ringmsg_release(fixture.ring, records + 1, 1), EINVAL);
    REFUSED(ringmsg_release(fixture.ring, records, 4), EINVAL);
    struct ringmsg_record batch[3] = {records[0], records[2], records[0]};
    REFUSED(ringmsg_release(fixture.ring, batch, 3), EINVAL);
    batch[2] = records[3], batch[2].segment = 4;
    REFUSED(ringmsg_release(fixture.ring, batch, 3), EINVAL);
    EQUAL(stats_of(fixture.ring).buffers_held, 1);
    batch[2] = records[3];
    OK(ringmsg_release(fixture.ring, batch, 3));
    EQUAL(stats_of(fixture.ring).buffers_held, 0);
    REFUSED(ringmsg_release(fixture.ring, batch, 3), EINVAL);
    check_ring_still_works();
    tear_down();
}

static void a_release_across_pools_is_all_or_nothing(void)
{
    set_up();
    arm();
    int other = bound_udp(AF_INET), to_other = sender_to(other);
    struct ringmsg_pool *second = make_pool(fixture.ring, other, 16, 2048);
    OK(ringmsg_recvmsg_multishot(fixture.ring, second, other, 0, 0, 2));
    receive(3);
    SYS(send(to_other, "x", 1, 0));
    records[3] = reap_one(fixture.ring);
    EQUAL(records[3].pool, ringmsg_pool_id(second));
    EQUAL(stats_of(fixture.ring).buffers_held, 4);
    struct ringmsg_record batch[4] = {records[0], records[3], records[1], records[2]};
    for (int at = 0; at < 4; at++) {
        struct ringmsg_record right = batch[at];
        batch[at].generation ^= 0x40000000;
        REFUSED(ringmsg_release(fixture.ring, batch, 4), EINVAL);
        batch[at] = right;
        batch[at].pool = 500;
        REFUSED(ringmsg_release(fixture.ring, batch, 4), EINVAL);
        batch[at] = batch[(at + 1) % 4];
        REFUSED(ringmsg_release(fixture.ring, batch, 4), EINVAL);
        batch[at] = right;
        EQUAL(stats_of(fixture.ring).buffers_held, 4);
        check_ring_still_works();
    }
    OK(ringmsg_release(fixture.ring, batch, 4));
    EQUAL(stats_of(fixture.ring).buffers_held, 0);
    check_ring_still_works();
    tear_down();
    close(other);
    close(to_other);
}

static void records_of_a_freed_pool_are_refused_by_its_successor(void)
{
    set_up();
    arm();
    int other = bound_udp(AF_INET), to_other = sender_to(other);
    struct ringmsg_record stale[8], fresh;
    struct ringmsg_pool *pool = make_pool(fixture.ring, other, 1, 2048);
    uint16_t id = ringmsg_pool_id(pool);
    for (int i = 0; i < 8; i++) {
        OK(ringmsg_recvmsg_multishot(fixture.ring, pool, other, 0, 0, 2));
        REFUSED(ringmsg_pool_free(pool), EBUSY); /* a request is armed */
        SYS(send(to_other, "x", 1, 0));
        fresh = reap_one(fixture.ring);
        EQUAL(fresh.pool, id);
        for (int old = 0; old < i; old++) {
            EQUAL(stale[old].buffer, fresh.buffer);
            REFUSED(ringmsg_release(fixture.ring, &stale[old], 1), EINVAL);
        }
        OK(ringmsg_cancel(fixture.ring, 2));
        EQUAL(reap_one(fixture.ring).flags, RINGMSG_RECORD_FINAL);
        REFUSED(ringmsg_pool_free(pool), EBUSY); /* a record is held */
        OK(ringmsg_release(fixture.ring, &fresh, 1));
        OK(ringmsg_pool_free(pool));
        REFUSED(ringmsg_pool_free(pool), EINVAL);
        REFUSED(ringmsg_release(fixture.ring, &fresh, 1), EINVAL);
        SAME_POINTER(ringmsg_ring_pool(fixture.ring, id), NULL);
        SAME_POINTER(ringmsg_pool_base(pool), NULL);
        EQUAL(ringmsg_pool_size(pool), 0);
        REFUSED(ringmsg_recvmsg_multishot(fixture.ring, pool, other, 0, 0, 2), EINVAL);
        REFUSED(ringmsg_recvmsg_once(fixture.ring, pool, other, 0, 0, 2), EINVAL);
        stale[i] = fresh;
        pool = make_pool(fixture.ring, other, 1, 2048);
        EQUAL(ringmsg_pool_id(pool), id);
    }
    check_ring_still_works();
    tear_down();
    close(other);
    close(to_other);
}

static void a_pool_of_another_ring_is_refused(void)
{
    set_up();
    arm();
    struct ringmsg_ring *other = make_ring();
    struct ringmsg_pool *foreign = make_pool(other, fixture.receiver, 4, 2048);
    REFUSED(ringmsg_recvmsg_multishot(fixture.ring, foreign, fixture.receiver, 0, 0, 2), EINVAL);
    REFUSED(ringmsg_recvmsg_once(fixture.ring, foreign, fixture.receiver, 0, 0, 2), EINVAL);
    check_ring_still_works();
    OK(ringmsg_ring_free(other));
    tear_down();
}

TESTS(TEST(double_and_forged_releases_are_refused),
      TEST(segments_are_released_once_each),
      TEST(a_release_across_pools_is_all_or_nothing),
      TEST(records_of_a_freed_pool_are_refused_by_its_successor),
      TEST(a_pool_of_another_ring_is_refused))
