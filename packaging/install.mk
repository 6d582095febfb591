# Installation and packages. The Makefile includes this file. Run `make` first and then
# `sudo make install`, so that root builds nothing.
#
# make install            installs the library, headers, .pc, CMake package, the program ringmsg and
#                         man pages; variables: PREFIX LIBDIR INCLUDEDIR BINDIR DATADIR DESTDIR
# make install-debug      installs the shared library's debug information, with the same variables
# make uninstall          removes the installed files, with the same variables

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
BINDIR ?= $(PREFIX)/bin
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
MAN1 := $(notdir $(wildcard docs/man/*.1))

INSTALLED = $(LIBDIR)/.debug/libringmsg.so.debug \
	$(LIBDIR)/libringmsg.so.$(VERSION) $(LIBDIR)/$(SONAME) $(LIBDIR)/libringmsg.so $(LIBDIR)/libringmsg.a \
	$(LIBDIR)/pkgconfig/ringmsg.pc \
	$(LIBDIR)/cmake/ringmsg/ringmsg-config.cmake $(LIBDIR)/cmake/ringmsg/ringmsg-config-version.cmake \
	$(INCLUDEDIR)/ringmsg.h $(INCLUDEDIR)/ringmsg.hpp $(BINDIR)/ringmsg $(addprefix $(MANDIR)/man1/,$(MAN1)) \
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

.PHONY: install install-runtime install-development install-program install-documents install-debug uninstall
install: install-runtime install-development install-program install-documents
	@echo "ringmsg $(VERSION) is in $(DESTDIR)$(PREFIX). If programs do not find $(SONAME) there: ldconfig"

$(BUILT)/libringmsg.a:
	$(MAKE) build

# The installed libraries are linked from the archive that cargo built: rustc gives a shared library
# a version script of its own, which leaves no room for symbol versions. First the archive becomes
# one object without unreferenced sections. From it come the shared library, with the symbol
# versions of packaging/libringmsg0.symbols and its debug information in a file of its own, and the
# static library, in which only the interface is global, so that a program can link two libraries
# written in Rust.
FINISHED := $(BUILT)/finished
$(FINISHED)/whole.o: $(BUILT)/libringmsg.a packaging/libringmsg0.symbols packaging/version-script.awk
	mkdir -p $(FINISHED)
	sed -n 's/^ \(ringmsg_.*\)@.*/\1/p' packaging/libringmsg0.symbols > $(FINISHED)/interface
	awk -f packaging/version-script.awk packaging/libringmsg0.symbols > $(FINISHED)/versions
	$(LD) -r --gc-sections $$(sed "s/^/-u /" $(FINISHED)/interface) -o $@ $< $(UNWINDER)
	$(OBJCOPY) --remove-section=.comment --remove-section=.llvmbc --remove-section=.llvmcmd $@

$(FINISHED)/libringmsg.so.debug: $(FINISHED)/whole.o
	$(CC) -shared -Wl,-soname,$(SONAME) -Wl,--version-script=$(FINISHED)/versions -Wl,--gc-sections \
		-Wl,-z,relro,-z,now,-z,nodelete -Wl,--as-needed -Wl,--build-id -o $(FINISHED)/unstripped.so $< \
		-lgcc_s -lpthread -ldl -lm $(LDFLAGS)
	$(OBJCOPY) --only-keep-debug $(FINISHED)/unstripped.so $@
	chmod 644 $@

$(FINISHED)/libringmsg.so: $(FINISHED)/libringmsg.so.debug
	$(OBJCOPY) --strip-unneeded --remove-section=.comment --add-gnu-debuglink=$< $(FINISHED)/unstripped.so $@

$(FINISHED)/libringmsg.a: $(FINISHED)/whole.o
	$(OBJCOPY) --strip-debug --keep-global-symbols=$(FINISHED)/interface $< $(FINISHED)/ringmsg.o
	rm -f $@
	$(AR) rcsD $@ $(FINISHED)/ringmsg.o

# The program. It has no run path: the installed one finds the library as any program does, and
# `make examples` builds one for this checkout.
PROGRAM_SOURCES := $(wildcard examples-c/ringmsg/*.c)
PROGRAM_CC = $(CC) -std=c11 -Wall -Wextra -Wpedantic $(CFLAGS) -ffile-prefix-map=$(CURDIR)=. -Iinclude $(PROGRAM_SOURCES)
$(FINISHED)/ringmsg: $(PROGRAM_SOURCES) examples-c/ringmsg/tool.h include/ringmsg.h $(FINISHED)/libringmsg.so
	$(PROGRAM_CC) -o $@ -L$(FINISHED) -lringmsg $(LDFLAGS)
	$(OBJCOPY) --strip-unneeded --remove-section=.comment $@

build/examples/ringmsg: $(PROGRAM_SOURCES) examples-c/ringmsg/tool.h include/ringmsg.h
	@mkdir -p $(@D)
	$(PROGRAM_CC) -o $@ -L$(PROFILE_DIR) -lringmsg -Wl,-rpath,$(PROFILE_DIR)

all: finish
.PHONY: finish
finish: build
	@$(MAKE) --no-print-directory $(FINISHED)/libringmsg.so $(FINISHED)/libringmsg.a $(FINISHED)/ringmsg

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

install-program: $(FINISHED)/ringmsg
	$(INSTALL) -d $(DESTDIR)$(BINDIR)
	$(INSTALL) -m 755 $(FINISHED)/ringmsg $(DESTDIR)$(BINDIR)/ringmsg

install-documents:
	$(INSTALL) -d $(addprefix $(DESTDIR)$(MANDIR)/,man1 man3 man7) $(DESTDIR)$(DOCDIR)
	for page in $(MAN3); do \
		for name in $$(sed -n 's/^.* names: //p' docs/man/$$page); do \
			ln -sf $$page $(DESTDIR)$(MANDIR)/man3/$$name.3 || exit 1; \
		done; \
		rm -f $(DESTDIR)$(MANDIR)/man3/$$page; \
		$(INSTALL) -m 644 docs/man/$$page $(DESTDIR)$(MANDIR)/man3 || exit 1; \
	done
	$(INSTALL) -m 644 $(addprefix docs/man/,$(MAN7)) $(DESTDIR)$(MANDIR)/man7
	$(INSTALL) -m 644 $(addprefix docs/man/,$(MAN1)) $(DESTDIR)$(MANDIR)/man1
	$(INSTALL) -m 644 LICENSE-APACHE LICENSE-MIT $(DESTDIR)$(DOCDIR)

uninstall:
	rm -f $(addprefix $(DESTDIR),$(INSTALLED))
	rmdir $(DESTDIR)$(LIBDIR)/.debug $(DESTDIR)$(LIBDIR)/cmake/ringmsg $(DESTDIR)$(DOCDIR) 2>/dev/null || true

# make man                generates docs/man/*.3 from include/ringmsg.h
.PHONY: man
man:
	RINGMSG_UPDATE_MAN=1 $(CARGO) test --locked --test man the_committed_pages_match_the_header

# make dist               makes build/ringmsg-VERSION.tar.xz, which builds without a network
# make deb                makes libringmsg0, libringmsg-dev, ringmsg and python3-ringmsg
#                         in build/deb
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

# make check-reproducible builds the committed files in two folders, and compares the libraries, the
#                         debug information and the program byte for byte
.PHONY: check-reproducible
check-reproducible: tools
	packaging/reproducible.sh

# make html               makes the manual as HTML in build/html, and checks its links
MDBOOK := $(or $(shell command -v mdbook),target/tools/bin/mdbook)
target/tools/bin/mdbook:
	@echo "will download: mdBook, from crates.io, and build it into target/tools (minutes)"
	$(CARGO) install mdbook --version 0.4.52 --locked --no-default-features --root target/tools

.PHONY: html
html: tools $(MDBOOK)
	$(call need,python3,apt-get install python3)
	@sh docs/html/make.sh $(MDBOOK) build/html

# make check-rpm          builds the RPM packages from the tarball, with rpmbuild
.PHONY: check-rpm
check-rpm: dist
	$(call need,rpmbuild,apt-get install rpm)
	packaging/rpm-test.sh

# make check-debian       runs dpkg-buildpackage on the committed files
.PHONY: check-debian
check-debian:
	$(call need,dh,apt-get install debhelper dpkg-dev)
	packaging/debian-test.sh

# make check-musl         builds the static library for musl, and links and runs a C program with
#                         musl-gcc; needs rustup's target x86_64-unknown-linux-musl
# The archive holds the unwinder that comes with Rust's target: gcc's own refers to a function of
# glibc (_dl_find_object), which musl does not have.
.PHONY: check-musl
MUSL_TARGET := x86_64-unknown-linux-musl
check-musl:
	$(call need,musl-gcc,apt-get install musl-tools)
	$(REPRODUCIBLE) $(CARGO) rustc --release --locked --lib --crate-type staticlib --target $(MUSL_TARGET)
	$(MAKE) --no-print-directory $(CARGO_TARGET_DIR)/$(MUSL_TARGET)/release/finished/libringmsg.a \
		BUILT=$(CARGO_TARGET_DIR)/$(MUSL_TARGET)/release \
		UNWINDER="$$(rustc --print target-libdir --target $(MUSL_TARGET))/self-contained/libunwind.a"
	@mkdir -p $(PROOF_DIR)
	musl-gcc -static -Wall -Iinclude tests/installed/smoke.c -o $(PROOF_DIR)/smoke-musl \
		$(CARGO_TARGET_DIR)/$(MUSL_TARGET)/release/finished/libringmsg.a
	@status=0; $(PROOF_DIR)/smoke-musl || status=$$?; [ $$status = 0 ] || [ $$status = 77 ]
	@echo "ok: links and runs with musl"

# make check-subproject   builds and runs a program in a CMake and in a meson project that contain
#                         this one
.PHONY: check-subproject
check-subproject: tools
	packaging/subproject-test.sh

# Part of `make proof`: what packagers build. A check whose tools are missing is a counted skip.
.PHONY: test-packages
has = command -v $(1) >/dev/null
try = if $(1); then $(MAKE) --no-print-directory $(2) || echo "FAILED $(2)"; \
	else echo "SKIPPED $(2): $(3)"; fi
test-packages:
	@$(call try,$(call has,musl-gcc) && test -d "$$(rustc --print target-libdir --target $(MUSL_TARGET))",check-musl,\
		needs musl-tools and the Rust target $(MUSL_TARGET))
	@$(call try,$(call has,cmake) && $(call has,meson),check-subproject,needs cmake and meson)
	@$(call try,$(call has,dh),check-debian,needs debhelper)
	@$(call try,$(call has,rpmbuild),check-rpm,needs rpm)
	@$(call try,test -x "$(MDBOOK)" || $(call has,mdbook),check-html,needs mdBook; make html builds it)

.PHONY: check-html
check-html:
	@$(MAKE) --no-print-directory html >/dev/null
	@echo "ok: the manual as HTML, its links checked"
