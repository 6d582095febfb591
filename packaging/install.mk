# make install    PREFIX= LIBDIR= INCLUDEDIR= DATADIR= DESTDIR=: library, headers, .pc, CMake package, man pages
# make uninstall  with the same variables: takes away what install put there
#
# Included by the Makefile. install builds nothing with other rights than your own:
# `make`, then `sudo make install`.

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DATADIR ?= $(PREFIX)/share
MANDIR ?= $(DATADIR)/man
DOCDIR ?= $(DATADIR)/doc/ringmsg
INSTALL ?= install
OBJCOPY ?= objcopy
# Where the libraries are that are to be installed.
BUILT ?= $(PROFILE_DIR)

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
SONAME := libringmsg.so.0
MAN3 := $(notdir $(wildcard docs/man/*.3))
# The functions that the pages are about: each gets a link to its page.
MAN3_NAMES := $(shell sed -n 's/^.* names: //p' docs/man/*.3)
MAN7 := $(notdir $(wildcard docs/man/*.7))

INSTALLED = \
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

.PHONY: install install-runtime install-development install-documents uninstall
install: install-runtime install-development install-documents
	@echo "ringmsg $(VERSION) is in $(DESTDIR)$(PREFIX). If programs do not find $(SONAME) there: ldconfig"

$(BUILT)/libringmsg.so $(BUILT)/libringmsg.a:
	$(MAKE) build

# What programs need to run.
install-runtime: $(BUILT)/libringmsg.so
	$(INSTALL) -d $(DESTDIR)$(LIBDIR)
	$(OBJCOPY) --strip-unneeded $(BUILT)/libringmsg.so $(DESTDIR)$(LIBDIR)/libringmsg.so.$(VERSION)
	chmod 755 $(DESTDIR)$(LIBDIR)/libringmsg.so.$(VERSION)
	ln -sf libringmsg.so.$(VERSION) $(DESTDIR)$(LIBDIR)/$(SONAME)

# What programs need to be built.
install-development: $(BUILT)/libringmsg.a
	$(INSTALL) -d $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(LIBDIR)/cmake/ringmsg $(DESTDIR)$(INCLUDEDIR)
	ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libringmsg.so
	$(OBJCOPY) --strip-debug $(BUILT)/libringmsg.a $(DESTDIR)$(LIBDIR)/libringmsg.a
	chmod 644 $(DESTDIR)$(LIBDIR)/libringmsg.a
	$(INSTALL) -m 644 include/ringmsg.h include/ringmsg.hpp $(DESTDIR)$(INCLUDEDIR)
	$(fill_in) packaging/ringmsg.pc.in > $(DESTDIR)$(LIBDIR)/pkgconfig/ringmsg.pc
	$(fill_in) packaging/ringmsg-config.cmake.in > $(DESTDIR)$(LIBDIR)/cmake/ringmsg/ringmsg-config.cmake
	$(fill_in) packaging/ringmsg-config-version.cmake.in \
		> $(DESTDIR)$(LIBDIR)/cmake/ringmsg/ringmsg-config-version.cmake

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
	rmdir $(DESTDIR)$(LIBDIR)/cmake/ringmsg $(DESTDIR)$(DOCDIR) 2>/dev/null || true

# make man        rewrites docs/man/*.3 from include/ringmsg.h
.PHONY: man
man:
	RINGMSG_UPDATE_MAN=1 $(CARGO) test --locked --test man the_committed_pages_are_what_the_header_says
