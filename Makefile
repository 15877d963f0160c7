# transcribe: recordings become rows
#
#   make && make install      the library and its two programs
#   make unit                 unit tests, without a server (run with prove)
#   make installcheck         all tests, on throwaway servers of their own
#   make check-crash          two hundred deaths of all kinds, and what comes after
#   make check-matrix         ./check.sh on several releases of Debian, as root
#   make bench-media          speed and memory against other tools, by hand
#   make bench-wer            what Whisper hears in what was prepared, by hand
#   make bench-requests       whole jobs, against the usual service, by hand
#   make bench-queue          the queue alone, against other queues, by hand
#   make dist                 what PGXN takes, of what is committed
#   make format               PostgreSQL's style for lines that were changed

PG_CONFIG ?= pg_config
srcdir ?= .

EXTENSION = transcribe
# What transcribe_check_server sends: "he might even have been made amiable
# himself", of a LibriVox reading of Sense and Sensibility, in the public domain.
DATA = $(notdir $(wildcard $(srcdir)/transcribe--*.sql)) transcribe_check.ogg
MODULE_big = transcribe

OBJS = \
	src/transcribe.o \
	src/shared/callback.o \
	src/shared/closure.o \
	src/shared/database.o \
	src/shared/encoding.o \
	src/shared/ended.o \
	src/shared/extension.o \
	src/shared/failpoint.o \
	src/shared/fields.o \
	src/shared/profile.o \
	src/shared/server.o \
	src/shared/state.o \
	src/shared/statement.o \
	src/shared/stats.o \
	src/session/backfill.o \
	src/session/check.o \
	src/session/checkup.o \
	src/session/columns.o \
	src/session/control.o \
	src/session/enqueue.o \
	src/session/identity.o \
	src/session/insert.o \
	src/session/keys.o \
	src/session/letters.o \
	src/session/on_complete.o \
	src/session/options.o \
	src/session/path.o \
	src/session/probe.o \
	src/session/progress.o \
	src/session/recording.o \
	src/session/search.o \
	src/session/servers.o \
	src/session/setup.o \
	src/session/speakers.o \
	src/session/subtitles.o \
	src/session/stats.o \
	src/session/tables.o \
	src/session/transcript.o \
	src/session/trigger.o \
	src/session/validator.o \
	src/session/wait.o \
	src/session/wake.o \
	src/session/workers.o \
	src/launcher/hint.o \
	src/launcher/launcher.o \
	src/runner/runner.o \
	src/worker/agent.o \
	src/worker/bring.o \
	src/worker/callbacks.o \
	src/worker/claim.o \
	src/worker/dispatch.o \
	src/worker/endpoint.o \
	src/worker/failure.o \
	src/worker/fit.o \
	src/worker/job.o \
	src/worker/limits.o \
	src/worker/plan.o \
	src/worker/progress.o \
	src/worker/purge.o \
	src/worker/queue.o \
	src/worker/request.o \
	src/worker/response.o \
	src/worker/rows.o \
	src/worker/save.o \
	src/worker/settings.o \
	src/worker/timeline.o \
	src/worker/utf8.o \
	src/worker/waiting.o \
	src/worker/worker.o \
	src/worker/write.o \
	src/wire/wire.o

# The programs run beside the server, not in it: plain C, no PostgreSQL.
PROGRAMS = transcribe_agent transcribe_media
AGENT_SRCS = $(wildcard $(srcdir)/src/agent/*.c) $(srcdir)/src/wire/wire.c
MEDIA_SRCS = $(wildcard $(srcdir)/src/media/*.c) $(srcdir)/src/wire/wire.c
# What prepares a recording, without those who have it prepared.
MEDIA_PARTS = $(filter-out %/media.c %/child.c %/command.c,$(MEDIA_SRCS))
INCLUDED = $(wildcard $(srcdir)/src/*.h $(srcdir)/src/*/*.h)

MEDIA_LIBS = libavformat libavcodec libavutil libswresample libebur128 libseccomp

EXTRA_CLEAN = $(PROGRAMS) test/unit/bin test/fuzz/bin test/bench/bin \
	test/sandbox/attempt

REGRESS = extension servers check setup enqueue enqueue_trigger backfill stored \
	results control wait text speakers search watch checkup rights
REGRESS_OPTS = --temp-instance=tmp_check --temp-config=$(srcdir)/test/transcribe.conf
ISOLATION = cancel_against_save claim_skips_locked delete_against_save \
	enqueue_same_recording on_complete_against_end rename_speaker \
	retry_against_enqueue save_of_lost_claim
ISOLATION_OPTS = --inputdir=$(srcdir)/test/isolation --outputdir=output_iso \
	--temp-instance=tmp_check_iso --temp-config=$(srcdir)/test/transcribe.conf
TAP_TESTS = 1
PROVE_TESTS = test/t/*.pl
PROVE_FLAGS = -I $(CURDIR)/test/perl

# No bitcode: nothing of ours is worth inlining into a query.
override with_llvm = no

# The version stands in the control file alone.
TRANSCRIBE_VERSION = $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" $(srcdir)/transcribe.control)

PG_CPPFLAGS = -I$(srcdir)/src -Wextra -Wno-unused-parameter -Wno-missing-field-initializers \
	-DTRANSCRIBE_VERSION='"$(TRANSCRIBE_VERSION)"'
# Only what PostgreSQL looks up is visible to the rest of the process.
SHLIB_LINK = -Wl,--version-script=$(srcdir)/src/transcribe.map

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

all: $(PROGRAMS)

# PGXS builds outside of the source tree, as packages do, but makes no folders.
ifdef VPATH
$(shell mkdir -p $(dir $(OBJS)))
endif

# At -O3 loops over samples are done several samples at a time.
PROGRAM_CFLAGS = -std=gnu11 -D_GNU_SOURCE -pthread -O3 -g -Wall -Wextra -Wmissing-prototypes \
	-fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE -pie -Wl,-z,relro,-z,now \
	-DTRANSCRIBE_VERSION='"$(TRANSCRIBE_VERSION)"' -I$(srcdir)/src $(COPT)

transcribe_agent: $(AGENT_SRCS) $(INCLUDED)
	$(CC) $(PROGRAM_CFLAGS) $(shell pkg-config --cflags libcurl) $(AGENT_SRCS) \
		-o $@ $(shell pkg-config --libs libcurl)

transcribe_media: $(MEDIA_SRCS) $(INCLUDED)
	$(CC) $(PROGRAM_CFLAGS) $(shell pkg-config --cflags $(MEDIA_LIBS)) $(MEDIA_SRCS) \
		-o $@ $(shell pkg-config --libs $(MEDIA_LIBS)) -lm

install: install-programs
install-programs: $(PROGRAMS) installdirs
	$(INSTALL_PROGRAM) $(PROGRAMS) '$(DESTDIR)$(pkglibdir)/'

uninstall: uninstall-programs
uninstall-programs:
	rm -f $(addprefix '$(DESTDIR)$(pkglibdir)'/, $(PROGRAMS))

$(OBJS): $(INCLUDED)
src/shared/extension.o src/session/identity.o $(PROGRAMS): $(srcdir)/transcribe.control

# Unit tests and fuzzers: test/unit/test_X.c or test/fuzz/fuzz_X.c names the
# sources that it needs in a line " * sources: ..." of its first comment, or
# needs src/*/X.c alone.  All are built as a frontend, which is what PostgreSQL
# calls code outside a server, and with sanitizers.  Fuzzing needs clang.
UNIT_TESTS = $(patsubst $(srcdir)/test/unit/%.c,test/unit/bin/%,$(wildcard $(srcdir)/test/unit/test_*.c))
FUZZERS = $(patsubst $(srcdir)/test/fuzz/%.c,test/fuzz/bin/%,$(wildcard $(srcdir)/test/fuzz/fuzz_*.c))
PURE_CFLAGS = -std=gnu11 -D_GNU_SOURCE -g -O1 -Wall -Wextra -Wno-unused-parameter \
	-fno-sanitize-recover=undefined -DFRONTEND -I$(srcdir)/src -I$(srcdir)/test/unit \
	-isystem $(includedir_server) $(COPT)
PURE_LIBS = -L$(pkglibdir) -L$(libdir) -lpgcommon -lpgport -lm
pure_sources = $(or $(addprefix $(srcdir)/,$(shell sed -n 's/^ \* sources: //p' $(1))), \
	$(wildcard $(srcdir)/src/*/$(2).c))

unit: $(UNIT_TESTS)
test/unit/bin/%: $(srcdir)/test/unit/%.c $(INCLUDED) $(wildcard $(srcdir)/src/*/*.c) $(srcdir)/test/unit/tap.h
	@mkdir -p test/unit/bin
	$(CC) $(PURE_CFLAGS) -fsanitize=address,undefined \
		$< $(call pure_sources,$<,$(*:test_%=%)) -o $@ $(PURE_LIBS)

# The system's clang, whose runtimes are likely to be there; else the one that
# PostgreSQL was built with.
FUZZ_CC = $(or $(shell command -v clang 2>/dev/null),$(CLANG),clang)

fuzz: $(FUZZERS)
test/fuzz/bin/%: $(srcdir)/test/fuzz/%.c $(INCLUDED) $(wildcard $(srcdir)/src/*/*.c)
	@mkdir -p test/fuzz/bin
	$(FUZZ_CC) $(PURE_CFLAGS) -fsanitize=fuzzer,address,undefined \
		$< $(call pure_sources,$<,$(*:fuzz_%=%)) -o $@ $(PURE_LIBS)

# What test/t/015_sandbox.pl runs: built as transcribe_media is.
installcheck: test/sandbox/attempt
test/sandbox/attempt: $(srcdir)/test/sandbox/attempt.c $(MEDIA_PARTS) $(INCLUDED)
	@mkdir -p test/sandbox
	$(CC) $(PROGRAM_CFLAGS) $(shell pkg-config --cflags $(MEDIA_LIBS)) $< $(MEDIA_PARTS) \
		-o $@ $(shell pkg-config --libs $(MEDIA_LIBS)) -lm

# What takes all of the media program, and its libraries.
WHOLE_MEDIA = test/unit/bin/test_media_chunk test/fuzz/bin/fuzz_media
$(WHOLE_MEDIA): pure_sources = $(MEDIA_PARTS)
$(WHOLE_MEDIA): PURE_CFLAGS += $(shell pkg-config --cflags $(MEDIA_LIBS))
$(WHOLE_MEDIA): PURE_LIBS += $(shell pkg-config --libs $(MEDIA_LIBS))
test/unit/bin/test_media_loudness: PURE_LIBS += $(shell pkg-config --libs libebur128)

# Every earlier finding, and then each target for a while.
FUZZ_SECONDS ?= 20
check-fuzz: fuzz
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(srcdir)/test/fuzz/run.sh

# Round after round something dies in the middle of a stream of jobs; the tests of
# every day do ten.
BATTERY_ROUNDS ?= 200
check-crash:
	BATTERY_ROUNDS=$(BATTERY_ROUNDS) $(srcdir)/check.sh tap 041_battery 046_battery_pid1

# RELEASES="trixie sid" chooses some, CHECK="tap 040_crash" what check.sh does there.
check-matrix:
	$(srcdir)/test/matrix.sh $(CHECK)

# How ours compares with other tools, and what Whisper hears in what it prepares.
# Run by hand; BENCH_PARTS chooses some of the tables.
BENCH_ROUNDS ?= 3
bench-media: transcribe_media test/bench/bin/spare
	$(srcdir)/test/bench/run.sh media --rounds $(BENCH_ROUNDS) $(BENCH_PARTS)

bench-wer: transcribe_media
	$(srcdir)/test/bench/run.sh wer

bench-requests:
	$(srcdir)/test/bench/run.sh requests --rounds $(BENCH_ROUNDS) $(BENCH_PARTS)

bench-queue:
	$(srcdir)/test/bench/run.sh queue --rounds $(BENCH_ROUNDS) $(BENCH_PARTS)

test/bench/bin/%: $(srcdir)/test/bench/%.c $(srcdir)/src/wire/wire.c $(INCLUDED)
	@mkdir -p test/bench/bin
	$(CC) $(PROGRAM_CFLAGS) $< $(srcdir)/src/wire/wire.c -o $@

# PGXN's version has three numbers.
DIST = transcribe-$(shell sed -n 's/^    "version": "\(.*\)",/\1/p' $(srcdir)/META.json)
dist:
	git -C $(srcdir) archive --format=zip --prefix=$(DIST)/ HEAD > $(DIST).zip

# Only lines that were changed: the rest has been through pgindent's rules by
# hand, of which clang-format knows most but not the alignment of names.
format:
	git clang-format --force --extensions c,h HEAD

.PHONY: unit fuzz check-fuzz check-crash check-matrix bench-media bench-wer bench-requests bench-queue dist format \
	install-programs uninstall-programs
