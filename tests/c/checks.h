/* The checks of the C tests. A check that fails prints the file, line, test and mode, the values it
 * compared, and the last error of the library in this thread, and ends the test. */
#ifndef RINGMSG_TEST_CHECKS_H
#define RINGMSG_TEST_CHECKS_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ringmsg.h>

static const char *test_name = "?", *test_mode_name = "?";

/* The last error that REFUSED sets before its call. */
static const char placeholder_error[] = "buf is NULL";

/* Prints the last error of the library in this thread, if a call of the test has set one. */
static void print_last_error(void)
{
    char sentence[256];
    if (ringmsg_last_error(sentence, sizeof sentence) != 0 && strcmp(sentence, placeholder_error) != 0)
        fprintf(stderr, "  (last error in this thread: %s)\n", sentence);
}

#define FAIL(...)                                                                              \
    do {                                                                                       \
        fprintf(stderr, "%s:%d: %s [%s]: ", __FILE__, __LINE__, test_name, test_mode_name);    \
        fprintf(stderr, __VA_ARGS__);                                                          \
        fputc('\n', stderr);                                                                   \
        print_last_error();                                                                    \
        exit(1);                                                                               \
    } while (0)

/* A condition that has no two values to show; otherwise use one of the checks below. */
#define CHECK(condition)                                                                       \
    do {                                                                                       \
        if (!(condition))                                                                      \
            FAIL("is false: %s", #condition);                                                  \
    } while (0)

/* Two integers are equal. */
#define EQUAL(actual, expected)                                                                \
    do {                                                                                       \
        long long actual_ = (long long)(actual), expected_ = (long long)(expected);            \
        if (actual_ != expected_)                                                              \
            FAIL("%s is %lld, not %s = %lld", #actual, actual_, #expected, expected_);         \
    } while (0)

/* Two integers compare like this: COMPARE(elapsed_us, >=, 30000). */
#define COMPARE(left, operator, right)                                                         \
    do {                                                                                       \
        long long left_ = (long long)(left), right_ = (long long)(right);                      \
        if (!(left_ operator right_))                                                          \
            FAIL("expected %s " #operator " %s, but %lld " #operator " %lld is false", #left,  \
                 #right, left_, right_);                                                       \
    } while (0)

/* An integer is one of two. */
#define ONE_OF(actual, first, second)                                                          \
    do {                                                                                       \
        long long actual_ = (long long)(actual), first_ = (first), second_ = (second);         \
        if (actual_ != first_ && actual_ != second_)                                           \
            FAIL("%s is %lld, neither %s = %lld nor %s = %lld", #actual, actual_, #first,      \
                 first_, #second, second_);                                                    \
    } while (0)

/* Two pointers are equal: SAME_POINTER(pool, NULL). */
#define SAME_POINTER(actual, expected)                                                         \
    do {                                                                                       \
        const void *actual_ = (const void *)(actual), *expected_ = (const void *)(expected);   \
        if (actual_ != expected_)                                                              \
            FAIL("%s is %p, not %s = %p", #actual, actual_, #expected, expected_);             \
    } while (0)

/* `text` contains `part`. */
#define CONTAINS(text, part)                                                                   \
    do {                                                                                       \
        const char *text_ = (text), *part_ = (part);                                           \
        if (strstr(text_, part_) == NULL)                                                      \
            FAIL("%s is \"%s\", without \"%s\"", #text, text_, part_);                         \
    } while (0)

/* `flags` has at least one bit of `flag` set. */
#define HAS_FLAG(flags, flag)                                                                  \
    do {                                                                                       \
        unsigned long long flags_ = (unsigned long long)(flags), flag_ = (flag);               \
        if ((flags_ & flag_) == 0)                                                             \
            FAIL("%s is %#llx, without %s = %#llx", #flags, flags_, #flag, flag_);             \
    } while (0)

/* Two areas of `length` bytes are equal. */
#define SAME_BYTES(actual, expected, length)                                                   \
    do {                                                                                       \
        const uint8_t *actual_ = (const void *)(actual), *expected_ = (const void *)(expected); \
        size_t length_ = (length), at_ = 0;                                                    \
        while (at_ < length_ && actual_[at_] == expected_[at_])                                \
            at_++;                                                                             \
        if (at_ < length_)                                                                     \
            FAIL("%s: byte %zu of %zu is %#x, not %#x as in %s", #actual, at_, length_,        \
                 actual_[at_], expected_[at_], #expected);                                     \
    } while (0)

/* The value of a library call, which must succeed. */
#define OK(call)                                                                     \
    __extension__({                                                                  \
        int value_ = (call);                                                         \
        if (value_ < 0)                                                              \
            FAIL("%s: %d (%s)", #call, value_, ringmsg_strerror(value_));            \
        value_;                                                                      \
    })

/* The value of a system call, which must succeed. */
#define SYS(call)                                                                    \
    __extension__({                                                                  \
        long value_ = (long)(call);                                                  \
        if (value_ < 0)                                                              \
            FAIL("%s: %s", #call, strerror(errno));                                  \
        value_;                                                                      \
    })

/* The library call must fail with this errno and set a last error of its own. */
#define REFUSED(call, expected_errno)                                                \
    do {                                                                             \
        char why_[256];                                                              \
        ringmsg_describe_support(NULL, 1); /* sets the last error to placeholder_error */ \
        EQUAL(call, -(expected_errno));                                              \
        if (ringmsg_last_error(why_, sizeof why_) == 0 || strcmp(why_, placeholder_error) == 0) \
            FAIL("%s set no last error", #call);                                     \
    } while (0)

/* Ends this test as skipped, with the reason why it cannot run here. */
enum { SKIPPED = 77 };
__attribute__((unused)) static void skip_test(const char *why)
{
    printf("(skipped %s [%s]: %s)\n", test_name, test_mode_name, why);
    exit(SKIPPED);
}

#endif
