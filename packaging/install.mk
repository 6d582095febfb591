# Installation and packages. The Makefile includes this file. Run `make` first and then
# `sudo make install`, so that root builds nothing.
#
# make install            installs the library, headers, .pc, CMake package and man pages;
#                         variables: PREFIX LIBDIR INCLUDEDIR DATADIR DESTDIR
# make install-debug      installs the shared library's debug information, with the same variables
# make uninstall          removes the installed files, with the same variables

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DATADIR ?= $(PREFIX)/share
MANDIR ?= $(DATADIR)/man
DOCDIR ?= $(DATADIR)/doc/ringmsg
INSTALL ?= install
OBJCOPY ?= objcopy
# The folder with the built libraries.
BUILT ?= $(PROFILE_DIR)

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
SONAME := libringmsg.so.0
MAN3 := $(notdir $(wildcard docs/man/*.3))
# The functions that the pages document: each gets a link to its page.
MAN3_NAMES := $(shell sed -n 's/^.* names: //p' docs/man/*.3)
MAN7 := $(notdir $(wildcard docs/man/*.7))

INSTALLED = $(LIBDIR)/.debug/libringmsg.so.debug \
	$(LIBDIR)/libringmsg.so.$(VERSION) $(LIBDIR)/$(SONAME) $(LIBDIR)/libringmsg.so $(LIBDIR)/libringmsg.a \
	$(LIBDIR)/pkgconfig/ringmsg.pc \
	$(LIBDIR)/cmake/ringmsg/ringmsg-config.cmake $(LIBDIR)/cmake/ringmsg/ringmsg-config-version.cmake \
	$(INCLUDEDIR)/ringmsg.h $(INCLUDEDIR)/ringmsg.hpp \
	$(addprefix $(MANDIR)/man3/,$(sort $(MAN3) $(addsuffix .3,$(MAN3_NAMES)))) $(addprefix $(MANDIR)/man7/,$(MAN7)) \
	$(DOCDIR)/LICENSE-APACHE $(DOCDIR)/LICENSE-MIT

# Paths below PREFIX are written relative to it, so that `pkg-config --define-prefix` works.
below_prefix = $(patsubst $(PREFIX)/%,$${prefix}/%,$(1))
fill_in = sed \
	-e 's|@prefix@|$(PREFIX)|g' \
	-e 's|@libdir@|$(call below_prefix,$(LIBDIR))|g' \
	-e 's|@includedir@|$(call below_prefix,$(INCLUDEDIR))|g' \
	-e "s|@include_from_lib@|$$(realpath -ms --relative-to=$(LIBDIR) $(INCLUDEDIR))|g" \
	-e 's|@version@|$(VERSION)|g'

.PHONY: install install-runtime install-development install-documents install-debug uninstall
install: install-runtime install-development install-documents
	@echo "ringmsg $(VERSION) is in $(DESTDIR)$(PREFIX). If programs do not find $(SONAME) there: ldconfig"

$(BUILT)/libringmsg.so $(BUILT)/libringmsg.a:
	$(MAKE) build

# The installed libraries are derived from those that cargo built. The debug information of the
# shared library goes to a file of its own. The static library becomes one object without
# unreferenced sections, in which only the interface is global, so that a program can link two
# libraries written in Rust.
FINISHED := $(BUILT)/finished
$(FINISHED)/libringmsg.so.debug: $(BUILT)/libringmsg.so
	mkdir -p $(FINISHED)
	$(OBJCOPY) --only-keep-debug $< $@
	chmod 644 $@

$(FINISHED)/libringmsg.so: $(BUILT)/libringmsg.so $(FINISHED)/libringmsg.so.debug
	$(OBJCOPY) --strip-unneeded --remove-section=.comment --add-gnu-debuglink=$(FINISHED)/libringmsg.so.debug $< $@

$(FINISHED)/libringmsg.a: $(BUILT)/libringmsg.a packaging/libringmsg0.symbols
	mkdir -p $(FINISHED)
	sed -n 's/^ \(ringmsg_.*\)@.*/\1/p' packaging/libringmsg0.symbols > $(FINISHED)/interface
	$(LD) -r --gc-sections $$(sed 's/^/-u /' $(FINISHED)/interface) -o $(FINISHED)/whole.o $<
	$(OBJCOPY) --strip-debug --remove-section=.comment --remove-section=.llvmbc --remove-section=.llvmcmd \
		--keep-global-symbols=$(FINISHED)/interface $(FINISHED)/whole.o $(FINISHED)/ringmsg.o
	rm -f $@ $(FINISHED)/whole.o
	$(AR) rcs $@ $(FINISHED)/ringmsg.o

all: finish
.PHONY: finish
finish: build
	@$(MAKE) --no-print-directory $(FINISHED)/libringmsg.so $(FINISHED)/libringmsg.a

# make size               prints the sizes of the libraries
.PHONY: size
size: finish
	@stat -L -c '%9s bytes  %n' $(BUILT)/libringmsg.so $(BUILT)/libringmsg.a $(FINISHED)/libringmsg.*

# Files that programs need at run time.
install-runtime: $(FINISHED)/libringmsg.so
	$(INSTALL) -d $(DESTDIR)$(LIBDIR)
	$(INSTALL) -m 755 $(FINISHED)/libringmsg.so $(DESTDIR)$(LIBDIR)/libringmsg.so.$(VERSION)
	ln -sf libringmsg.so.$(VERSION) $(DESTDIR)$(LIBDIR)/$(SONAME)

# Files that programs need at build time.
install-development: $(FINISHED)/libringmsg.a
	$(INSTALL) -d $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(LIBDIR)/cmake/ringmsg $(DESTDIR)$(INCLUDEDIR)
	ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libringmsg.so
	$(INSTALL) -m 644 $(FINISHED)/libringmsg.a $(DESTDIR)$(LIBDIR)
	$(INSTALL) -m 644 include/ringmsg.h include/ringmsg.hpp $(DESTDIR)$(INCLUDEDIR)
	$(fill_in) packaging/ringmsg.pc.in > $(DESTDIR)$(LIBDIR)/pkgconfig/ringmsg.pc
	$(fill_in) packaging/ringmsg-config.cmake.in > $(DESTDIR)$(LIBDIR)/cmake/ringmsg/ringmsg-config.cmake
	$(fill_in) packaging/ringmsg-config-version.cmake.in \
		> $(DESTDIR)$(LIBDIR)/cmake/ringmsg/ringmsg-config-version.cmake

# Files that debuggers look for beside the library.
install-debug: $(FINISHED)/libringmsg.so.debug
	$(INSTALL) -d $(DESTDIR)$(LIBDIR)/.debug
	$(INSTALL) -m 644 $< $(DESTDIR)$(LIBDIR)/.debug/libringmsg.so.debug

install-documents:
	$(INSTALL) -d $(DESTDIR)$(MANDIR)/man3 $(DESTDIR)$(MANDIR)/man7 $(DESTDIR)$(DOCDIR)
	for page in $(MAN3); do \
		for name in $$(sed -n 's/^.* names: //p' docs/man/$$page); do \
			ln -sf $$page $(DESTDIR)$(MANDIR)/man3/$$name.3 || exit 1; \
		done; \
		rm -f $(DESTDIR)$(MANDIR)/man3/$$page; \
		$(INSTALL) -m 644 docs/man/$$page $(DESTDIR)$(MANDIR)/man3 || exit 1; \
	done
	$(INSTALL) -m 644 $(addprefix docs/man/,$(MAN7)) $(DESTDIR)$(MANDIR)/man7
	$(INSTALL) -m 644 LICENSE-APACHE LICENSE-MIT $(DESTDIR)$(DOCDIR)

uninstall:
	rm -f $(addprefix $(DESTDIR),$(INSTALLED))
	rmdir $(DESTDIR)$(LIBDIR)/.debug $(DESTDIR)$(LIBDIR)/cmake/ringmsg $(DESTDIR)$(DOCDIR) 2>/dev/null || true

# make man                generates docs/man/*.3 from include/ringmsg.h
.PHONY: man
man:
	RINGMSG_UPDATE_MAN=1 $(CARGO) test --locked --test man the_committed_pages_match_the_header

# make dist               makes build/ringmsg-VERSION.tar.xz, which builds without a network
# make deb                makes libringmsg0, libringmsg-dev and python3-ringmsg in build/deb
# make check-lintian      runs lintian on the packages
# make check-deb          installs the packages in a fresh root, and compiles and runs the examples
#                         there (root)
.PHONY: dist deb check-deb check-lintian
dist:
	packaging/dist.sh

deb: finish
	$(call need,dpkg-gensymbols,apt-get install dpkg-dev)
	packaging/deb.sh

# The maintainer's address is that of the person who distributes the packages
# (DEBEMAIL="Name <address>"), and a first upload outside Debian closes no bug.
NOT_OURS := bogus-mail-host,bogus-mail-host-in-debian-changelog,initial-upload-closes-no-bugs
check-lintian: deb
	$(call need,lintian,apt-get install lintian)
	lintian --fail-on error,warning --suppress-tags $(NOT_OURS) build/deb/*.deb
	@echo "ok: lintian has no error and no warning"

check-deb: deb
	packaging/deb-test.sh

# make check-cross        builds the library for aarch64, and links a C program with it
.PHONY: check-cross
CROSS_TARGET := aarch64-unknown-linux-gnu
CROSS := aarch64-linux-gnu-
check-cross:
	$(call need,$(CROSS)gcc,apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$(CROSS)gcc \
		$(CARGO) $(LIBRARIES) --target $(CROSS_TARGET)
	$(MAKE) install-runtime install-development BUILT=$(CARGO_TARGET_DIR)/$(CROSS_TARGET)/release \
		LD=$(CROSS)ld AR=$(CROSS)ar OBJCOPY=$(CROSS)objcopy PREFIX=/usr DESTDIR=$(CURDIR)/build/cross
	set -e; for how in "-lringmsg" "-l:libringmsg.a" "-static -l:libringmsg.a"; do \
		$(CROSS)gcc -Wall -Werror -Ibuild/cross/usr/include tests/installed/smoke.c -o build/cross/smoke \
			-Lbuild/cross/usr/lib $$how -lpthread -ldl -lm; \
		$(CROSS)readelf -h build/cross/smoke | grep -q AArch64; \
	done
	@echo "ok: builds and links for $(CROSS_TARGET). NOT CHECKED: running there"
