# libusplit: every target. `make help` lists them. No configure step; objects live in
# build/<mode>-<hash of compiler and flags>, so modes never mix. V=1 shows commands.

# System packages, by their Debian and Ubuntu names. `make setup GOAL...` installs them first and then starts
# make anew for the goals, so that what pkg-config and the compiler say below is asked when they are there.
PACKAGES := build-essential pkg-config libdnnl-dev libhdf5-dev libtiff-dev libpng-dev libblosc-dev libzstd-dev \
            zlib1g-dev libjansson-dev libcmocka-dev
ifneq ($(filter setup,$(MAKECMDGOALS)),)
.PHONY: $(MAKECMDGOALS)
.NOTPARALLEL:
## setup: name and install the system packages (Debian, Ubuntu); `make setup demo`, `make setup check`
setup:
	@.ci/setup $(PACKAGES)
$(filter-out setup,$(MAKECMDGOALS)): setup
	@$(MAKE) --no-print-directory $@
else

CC ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif
AR ?= ar
PKG_CONFIG ?= pkg-config
MODE ?= release
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
BINDIR ?= $(PREFIX)/bin
MANDIR ?= $(PREFIX)/share/man
COMPLETIONDIR ?= $(PREFIX)/share/bash-completion/completions
DESTDIR ?=
Q := $(if $(V),,@)
# No built-in rules: they would try to make x.d, an included file, from x.d.o.
MAKEFLAGS += --no-builtin-rules

version = $(shell sed -n 's/^\#define USPLIT_VERSION_$(1) \([0-9]*\)$$/\1/p' include/usplit.h)
MAJOR := $(call version,MAJOR)
MINOR := $(call version,MINOR)
PATCH := $(call version,PATCH)
VERSION := $(MAJOR).$(MINOR).$(PATCH)
SONAME := libusplit.so.$(MAJOR)

# ---- Dependencies: each is used in one folder only -----------------------------------------------
# DNNL_DIR: a folder with include/ and lib/ of another oneDNN (3.x, say) than the system's.
HDF5_CFLAGS := $(shell $(PKG_CONFIG) --cflags hdf5-serial 2>/dev/null || $(PKG_CONFIG) --cflags hdf5 2>/dev/null)
HDF5_LIBS := $(shell $(PKG_CONFIG) --libs hdf5-serial 2>/dev/null || $(PKG_CONFIG) --libs hdf5 2>/dev/null || echo -lhdf5)
comma := ,
DNNL_CFLAGS := $(if $(DNNL_DIR),-I$(DNNL_DIR)/include)
DNNL_LIBS := $(if $(DNNL_DIR),-L$(DNNL_DIR)/lib -Wl$(comma)-rpath$(comma)$(abspath $(DNNL_DIR)/lib)) -ldnnl
CLI_CFLAGS := $(shell $(PKG_CONFIG) --cflags libtiff-4 libpng 2>/dev/null)
CLI_LIBS := $(shell $(PKG_CONFIG) --libs libtiff-4 libpng 2>/dev/null || echo -ltiff -lpng) $(HDF5_LIBS)
ZARR_CFLAGS := $(shell $(PKG_CONFIG) --cflags blosc libzstd zlib jansson 2>/dev/null)
CLI_LIBS += $(shell $(PKG_CONFIG) --libs blosc libzstd zlib jansson 2>/dev/null || echo -lblosc -lzstd -lz -ljansson)

WARN := -Wall -Wextra -Wpedantic -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
        -Wpointer-arith -Wcast-qual -Wwrite-strings -Wvla $(if $(findstring clang,$(CC)),,-Wno-format-truncation)
BASE_CFLAGS := -std=c11 -D_GNU_SOURCE -fPIC -fvisibility=hidden -fno-math-errno -fno-trapping-math -pthread -Iinclude -Isrc -g
ifeq ($(MODE),release)
MODE_CFLAGS := -O3
else ifeq ($(MODE),debug)
MODE_CFLAGS := -O1 -DUS_DEBUG
else ifeq ($(MODE),asan)
MODE_CFLAGS := -O1 -DUS_DEBUG -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
else ifeq ($(MODE),tsan)
MODE_CFLAGS := -O1 -DUS_DEBUG -fsanitize=thread -fno-omit-frame-pointer
else
$(error MODE is '$(MODE)'; accepted: release, debug, asan, tsan)
endif
ALL_CFLAGS := $(BASE_CFLAGS) $(WARN) $(MODE_CFLAGS) $(CFLAGS)
LIBS := $(HDF5_LIBS) $(DNNL_LIBS) -lm -lpthread -ldl

HASH := $(shell echo '$(CC) $(ALL_CFLAGS) $(DNNL_DIR) $(shell $(CC) --version 2>/dev/null | head -1)' | cksum | cut -d' ' -f1)
B := build/$(MODE)-$(HASH)
# Products of other modes stay in their build folder; the release goes to lib/ and bin/.
LIBOUT := $(if $(filter release,$(MODE)),lib,$(B)/lib)
BINOUT := $(if $(filter release,$(MODE)),bin,$(B)/bin)

# ---- Sources --------------------------------------------------------------------------------------
LIB_DIRS := base image patch data net plan backend cpu train tile dip ckpt api
LIB_SRC := $(sort $(wildcard $(LIB_DIRS:%=src/%/*.c)))
# These kernels are compiled once per instruction set and chosen at run time.
ISA_SRC := src/cpu/map_isa.c src/cpu/weight_isa.c
LIB_SRC := $(filter-out $(ISA_SRC),$(LIB_SRC))
MACHINE := $(shell $(CC) -dumpmachine | cut -d- -f1)
ISAS := $(if $(filter x86_64,$(MACHINE)),avx512 avx2 base,base)
ISA_FLAGS_base :=
ISA_FLAGS_avx2 := -mavx2 -mfma
ISA_FLAGS_avx512 := -mavx512f -mavx512dq -mavx512vl -mavx512bw -mavx2 -mfma -mprefer-vector-width=512
LIB_OBJ := $(LIB_SRC:%.c=$(B)/%.o) $(foreach f,$(ISA_SRC:.c=),$(ISAS:%=$(B)/$f_%.o))
CLI_SRC := $(sort $(wildcard src/cli/*.c src/cli/*/*.c))
CLI_OBJ := $(CLI_SRC:%.c=$(B)/%.o)
TEST_SRC := $(sort $(wildcard test/unit/test_*.c test/property/test_*.c test/fault/test_*.c test/fuzz/test_*.c))
TESTS := $(TEST_SRC:%.c=$(B)/%)
HELP_SRC := $(sort $(wildcard test/common/*.c))
HELP_OBJ := $(HELP_SRC:%.c=$(B)/%.o)
EXAMPLES := $(patsubst %.c,$(B)/%,$(wildcard examples/c/*.c))

.PHONY: all lib cli examples check parity bench lint asan tsan install uninstall clean help demo check-abi abi-accept format tests
.DELETE_ON_ERROR:
.SECONDARY:

## all: the library (shared and static) and the usplit program (default)
all: lib cli

## lib: lib/libusplit.so and lib/libusplit.a
lib: $(LIBOUT)/$(SONAME) $(LIBOUT)/libusplit.a

## cli: bin/usplit
cli: $(if $(CLI_SRC),$(BINOUT)/usplit)

## examples: the C examples, linked like a host program
examples: $(EXAMPLES)

$(B)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(Q)$(if $(V),,echo "  CC   $<" &&) $(CC) $(ALL_CFLAGS) $(call flags_of,$<) -MMD -MP -c $< -o $@

define isa_rule
$(B)/$(1)_$(2).o: $(1).c Makefile
	@mkdir -p $$(@D)
	$$(Q)$$(if $$(V),,echo "  CC   $$< ($(2))" &&) $$(CC) $$(ALL_CFLAGS) -ffp-contract=fast $$(ISA_FLAGS_$(2)) -DUS_ISA=$(2) -MMD -MP -c $$< -o $$@
endef
$(foreach f,$(ISA_SRC:.c=),$(foreach i,$(ISAS),$(eval $(call isa_rule,$f,$i))))

# Third-party headers are visible only to the folder that wraps them.
flags_of = $(if $(findstring src/ckpt/,$1),$(HDF5_CFLAGS))$(if $(findstring src/cpu/dnnl_,$1),$(DNNL_CFLAGS))$(if $(findstring src/cli/,$1),$(CLI_CFLAGS))$(if $(findstring src/cli/image/hdf5_reader,$1),$(HDF5_CFLAGS))$(if $(findstring zarr,$1),$(ZARR_CFLAGS))$(if $(findstring test/,$1),-Itest $(HDF5_CFLAGS) $(CLI_CFLAGS))

# lib/ is shared by all release builds: it is linked anew when the compiler, a flag or the list of sources
# is another one than last time.
$(LIBOUT)/.built-as: always
	@mkdir -p $(@D)
	@echo '$(HASH) $(LIB_OBJ)' | cmp -s - $@ || echo '$(HASH) $(LIB_OBJ)' > $@
.PHONY: always

$(LIBOUT)/$(SONAME): $(LIB_OBJ) src/usplit.map $(LIBOUT)/.built-as
	@mkdir -p $(@D)
	$(Q)$(if $(V),,echo "  LD   $@" &&) $(CC) $(MODE_CFLAGS) $(LDFLAGS) -shared -Wl,-soname,$(SONAME) \
	  $(if $(filter release debug,$(MODE)),-Wl$(comma)-z$(comma)defs) -Wl,--version-script=src/usplit.map -o $@ $(LIB_OBJ) $(LIBS)
	@ln -sf $(SONAME) $(LIBOUT)/libusplit.so

$(LIBOUT)/libusplit.a: $(LIB_OBJ) $(LIBOUT)/.built-as
	@mkdir -p $(@D)
	@rm -f $@
	$(Q)$(if $(V),,echo "  AR   $@" &&) $(AR) rcs $@ $(LIB_OBJ)

$(BINOUT)/usplit: $(CLI_OBJ) $(LIBOUT)/$(SONAME) $(LIBOUT)/.built-as
	@mkdir -p $(@D)
	$(Q)$(if $(V),,echo "  LD   $@" &&) $(CC) $(MODE_CFLAGS) $(LDFLAGS) -o $@ $(CLI_OBJ) -L$(LIBOUT) -lusplit $(CLI_LIBS) -lm \
	  -Wl,-rpath,'$$ORIGIN/../lib'

# Tests see the internals: they link the static library.
$(B)/test/%: $(B)/test/%.o $(HELP_OBJ) $(LIBOUT)/libusplit.a
	@mkdir -p $(@D)
	$(Q)$(if $(V),,echo "  LD   $@" &&) $(CC) $(MODE_CFLAGS) $(LDFLAGS) -o $@ $< $(HELP_OBJ) $(LIBOUT)/libusplit.a -lcmocka $(LIBS)

# These tests also use the program's modules.
CLI_TEST_OBJ := $(filter-out %/main.o,$(CLI_OBJ))
CLI_TESTS := $(addprefix $(B)/test/,unit/test_tiff unit/test_score unit/test_reproduce unit/test_import unit/test_report \
             unit/test_check fuzz/test_import_fuzz unit/test_images unit/test_zarr fuzz/test_image_fuzz)
$(CLI_TESTS): $(CLI_TEST_OBJ)
$(CLI_TESTS): LIBS := $(CLI_TEST_OBJ) $(LIBOUT)/libusplit.a $(CLI_LIBS) $(LIBS)

$(B)/examples/%: examples/%.c $(LIBOUT)/$(SONAME)
	@mkdir -p $(@D)
	$(Q)$(if $(V),,echo "  LD   $@" &&) $(CC) -std=c99 -Wall -Wextra -Werror -O2 -Iinclude $(filter -fsanitize%,$(MODE_CFLAGS)) -o $@ $< -L$(LIBOUT) -lusplit -Wl,-rpath,$(abspath $(LIBOUT))

## tests: build the test programs without running them
tests: $(TESTS)

-include Makefile.targets

-include $(LIB_OBJ:.o=.d) $(CLI_OBJ:.o=.d) $(TESTS:=.d) $(HELP_OBJ:.o=.d)

## help: this list
help:
	@sed -n 's/^## \([a-z-]*\): \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | sort | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'

## clean: remove what was built
clean:
	$(Q)rm -rf build lib bin

endif
