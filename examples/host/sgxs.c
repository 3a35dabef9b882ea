/* Reads a .sgxs file: the enclave as the sequence of records that its measurement is made of.
 *
 * Each record has 64 bytes, and begins with its name: ECREATE (size), EADD (a page), EEXTEND (256 measured bytes of it,
 * which follow), UNMEASRD (256 bytes that are loaded and not measured).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "host.h"

#define CHUNK 256

struct record {
	char name[8];
	union {
		struct {
			uint32_t ssaframesize;
			uint64_t size;
		} __attribute__((packed)) ecreate;
		struct {
			uint64_t offset, flags;
		} eadd;
		uint64_t chunk;
		uint8_t rest[56];
	};
};
_Static_assert(sizeof(struct record) == 64, "a record has 64 bytes");

static bool is(const struct record *record, const char *name)
{
	return !strncmp(record->name, name, sizeof(record->name));
}

static void add_page(struct file *file, const struct record *record)
{
	if (!(file->count & (file->count - 1))) {
		size_t room = file->count ? 2 * file->count : 1;

		file->pages = realloc(file->pages, room * sizeof(*file->pages));
		if (!file->pages)
			die("read", "out of memory");
	}
	file->pages[file->count++] = (struct page){ record->eadd.offset, record->eadd.flags, false };
}

struct file read_sgxs(const char *path)
{
	struct file file = { 0 };
	struct record record;
	FILE *in = fopen(path, "rb");

	if (!in)
		die("read", "%s: %m", path);
	if (fread(&record, sizeof(record), 1, in) != 1 || !is(&record, "ECREATE"))
		die("read", "%s is no .sgxs file", path);
	file.size = record.ecreate.size;
	file.ssaframesize = record.ecreate.ssaframesize;
	/* The kernel takes pages from here that will be executable: the memory must be such that it could be, too. */
	file.bytes = mmap(NULL, file.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (file.bytes == MAP_FAILED)
		die("read", "%s: %lu bytes: %m", path, file.size);
	while (fread(&record, sizeof(record), 1, in) == 1) {
		if (is(&record, "EADD")) {
			if (record.eadd.offset % PAGE || record.eadd.offset >= file.size)
				die("read", "%s: a page at %#lx", path, record.eadd.offset);
			add_page(&file, &record);
		} else if (is(&record, "EEXTEND") || is(&record, "UNMEASRD")) {
			if (!file.count || record.chunk % CHUNK || record.chunk >= file.size ||
			    fread(file.bytes + record.chunk, CHUNK, 1, in) != 1)
				die("read", "%s: a chunk at %#lx", path, record.chunk);
			/* The driver measures whole pages; this takes files of whole pages. */
			file.pages[file.count - 1].measured |= is(&record, "EEXTEND");
		} else {
			die("read", "%s: an unknown record, %.8s", path, record.name);
		}
	}
	fclose(in);
	return file;
}

void read_whole(const char *path, void *buffer, size_t size)
{
	FILE *in = fopen(path, "rb");

	if (!in)
		die("read", "%s: %m", path);
	if (fread(buffer, size, 1, in) != 1 || fgetc(in) != EOF)
		die("read", "%s: %zu bytes are expected", path, size);
	fclose(in);
}
