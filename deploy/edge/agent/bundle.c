/* Bundles as serving/edge/bundle.py reads them: nothing is interpreted before its signature is found good. */
#include <inttypes.h>
#include <math.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "agent.h"

enum { MOST_ENTRIES = 16, END_BYTES = 22, ENTRY_BYTES = 46, LOCAL_BYTES = 30, FORMAT = 1 };
/* What Python's zipfile reads at most, and the one flag that a bundle's entries may have. */
enum { NEWEST_VERSION = 63, UTF_8_NAME = 0x800 };
static const char *const REQUIRED[] = {"manifest.json", "manifest.sig", "recogniser.tflite", "catalogue.json",
                                       "embeddings.i8", "scales.f4",    "thresholds.json"};
/* What only some bundles hold: of it the agent runs nothing, but it is hashed as all else. */
static const char *const OPTIONAL[] = {"probes.json",   "centroids.f4", "clusters.i4",          "scorer.tflite",
                                       "scorer.json",   "scorer.vocabularies", "scorer.embeddings.f4", "scorer.words.f4"};
#define LENGTH(array) (sizeof(array) / sizeof *(array))

typedef struct {
  char name[64];
  Part part;
} Entry;

typedef struct {
  Entry entries[MOST_ENTRIES];
  size_t count;
} Archive;

static uint32_t number(const uint8_t *place, int bytes) {
  uint32_t value = 0;
  for (int byte = bytes - 1; byte >= 0; byte--) value = value << 8 | place[byte];
  return value;
}

static const Entry *find(const Archive *archive, const char *name) {
  for (size_t entry = 0; entry < archive->count; entry++)
    if (!strcmp(archive->entries[entry].name, name)) return &archive->entries[entry];
  return NULL;
}

/* The entries of a ZIP archive without compression (PKWARE's APPNOTE 4.3). */
static Archive read_archive(const uint8_t *content, size_t size) {
  Archive archive = {.count = 0};
  size_t end = size < END_BYTES ? 0 : size - END_BYTES;
  while (end > 0 && memcmp(content + end, "PK\5\6", 4)) end--;
  if (!end) refuse("damaged", "no whole archive");
  size_t count = number(content + end + 10, 2), place = number(content + end + 16, 4);
  if (place > end || end - place != number(content + end + 12, 4)) refuse("damaged", "no whole archive");
  if (count > MOST_ENTRIES) refuse("damaged", "%zu entries", count);
  for (; archive.count < count; archive.count++) {
    if (place > end || end - place < ENTRY_BYTES || memcmp(content + place, "PK\1\2", 4)) refuse("damaged", "no whole archive");
    const uint8_t *entry = content + place;
    size_t bytes = number(entry + 24, 4), name = number(entry + 28, 2), begin = number(entry + 42, 4);
    if (number(entry + 6, 2) > NEWEST_VERSION || number(entry + 8, 2) & ~UTF_8_NAME || number(entry + 10, 2) ||
        number(entry + 20, 4) != bytes)
      refuse("damaged", "it holds compressed or encrypted entries, which no bundle has");
    Entry *kept = &archive.entries[archive.count];
    if (name >= sizeof kept->name || end - place < ENTRY_BYTES + name) refuse("damaged", "a name is too long");
    memcpy(kept->name, entry + ENTRY_BYTES, name);
    kept->name[name] = 0;
    if (begin > end || end - begin < LOCAL_BYTES || memcmp(content + begin, "PK\3\4", 4)) refuse("damaged", "no whole archive");
    size_t data = begin + LOCAL_BYTES + number(content + begin + 26, 2) + number(content + begin + 28, 2);
    if (data > end || end - data < bytes || number(content + begin + 26, 2) != name ||
        memcmp(content + begin + LOCAL_BYTES, kept->name, name) ||
        crc32(0, content + data, (uInt)bytes) != number(entry + 16, 4))
      refuse("damaged", "no whole archive");
    kept->part = (Part){content + data, bytes};
    place += ENTRY_BYTES + name + number(entry + 30, 2) + number(entry + 32, 2);
  }
  if (place != end) refuse("damaged", "no whole archive");
  for (size_t name = 0; name < LENGTH(REQUIRED); name++)
    if (!find(&archive, REQUIRED[name]))
      refuse(strcmp(REQUIRED[name], "manifest.sig") ? "damaged" : "unsigned", "it holds no %s", REQUIRED[name]);
  size_t optional = 0;
  for (size_t name = 0; name < LENGTH(OPTIONAL); name++) optional += find(&archive, OPTIONAL[name]) != NULL;
  if (count != LENGTH(REQUIRED) + optional)
    refuse("damaged", "it holds other files than a bundle does");
  return archive;
}

static EVP_PKEY *read_key(const char *path) {
  FILE *file = fopen(path, "r");
  if (!file) fail(EXIT_WRONG, "%s: cannot be read", path);
  EVP_PKEY *key = PEM_read_PUBKEY(file, NULL, NULL, NULL);
  fclose(file);
  if (!key || EVP_PKEY_id(key) != EVP_PKEY_ED25519) fail(EXIT_WRONG, "%s: no Ed25519 key in PEM", path);
  return key;
}

static bool has_signed(const char *path, Part manifest, Part signature) {
  EVP_PKEY *key = read_key(path);
  EVP_MD_CTX *context = EVP_MD_CTX_new();
  bool good = context && EVP_DigestVerifyInit(context, NULL, NULL, NULL, key) == 1 &&
              EVP_DigestVerify(context, signature.content, signature.size, manifest.content, manifest.size) == 1;
  EVP_MD_CTX_free(context);
  EVP_PKEY_free(key);
  return good;
}

static void write_sha256(Part part, char text[static SHA256_CHARACTERS]) {
  uint8_t digest[EVP_MAX_MD_SIZE];
  unsigned int bytes = 0;
  if (EVP_Digest(part.content, part.size, digest, &bytes, EVP_sha256(), NULL) != 1)
    fail(EXIT_WRONG, "this OpenSSL has no SHA-256");
  for (unsigned int byte = 0; byte < bytes; byte++) sprintf(text + 2 * byte, "%02x", digest[byte]);
}

static void check_hash(const Entry *entry, json_t *stated) {
  char text[SHA256_CHARACTERS];
  write_sha256(entry->part, text);
  const char *sha256 = json_string_value(json_object_get(stated, "sha256"));
  if (!sha256 || strcmp(sha256, text) || json_integer_value(json_object_get(stated, "size")) != (json_int_t)entry->part.size)
    refuse("altered", "%s is not what the manifest says", entry->name);
}

static json_t *parsed(Part part, const char *name) {
  json_error_t error;
  json_t *document = json_loadb((const char *)part.content, part.size, 0, &error);
  if (!document) refuse("unfit", "%s: %s", name, error.text);
  return document;
}

/* Whether a version such as 0.10.0 is later than another. */
static bool is_later(const char *version, const char *other) {
  for (;;) {
    char *rest, *other_rest;
    long mine = strtol(version, &rest, 10), its = strtol(other, &other_rest, 10);
    if (rest == version || (*rest && *rest != '.')) refuse("unfit", "no version: %s", version);
    if (mine != its) return mine > its;
    if (!*rest || !*other_rest) return *rest != 0;
    version = rest + 1;
    other = other_rest + 1;
  }
}

static void check_manifest(const Archive *archive, json_t *manifest, int64_t minimum_version) {
  const char *name;
  json_t *stated, *files = json_object_get(manifest, "files");
  if (json_integer_value(json_object_get(manifest, "format")) != FORMAT)
    refuse("wrong_runtime", "its format is not %d, which this runtime reads", FORMAT);
  if (json_object_size(files) != archive->count - 2) refuse("altered", "it holds other files than the manifest names");
  json_object_foreach(files, name, stated) {
    const Entry *entry = find(archive, name);
    if (!entry) refuse("altered", "it holds no %s, which the manifest names", name);
    check_hash(entry, stated);
  }
  int64_t version = json_integer_value(json_object_get(manifest, "version"));
  if (version < minimum_version)
    refuse("too_old", "version %" PRId64 " is older than %" PRId64 ", which is required", version, minimum_version);
  const char *runtime = json_string_value(json_object_get(manifest, "minimum_runtime"));
  if (!runtime) refuse("unfit", "it names no minimum_runtime");
  if (is_later(runtime, RUNTIME_VERSION)) refuse("wrong_runtime", "it needs runtime %s or later, this is " RUNTIME_VERSION, runtime);
}

Bundle read_bundle(const uint8_t *content, size_t size, const char *const *public_keys, size_t keys, int64_t minimum_version) {
  Archive archive = read_archive(content, size);
  Part signed_part = find(&archive, "manifest.json")->part;
  bool is_trusted = false;
  for (size_t key = 0; key < keys; key++)
    is_trusted = is_trusted || has_signed(public_keys[key], signed_part, find(&archive, "manifest.sig")->part);
  if (!is_trusted) refuse("unsigned", "no trusted key has signed it");
  json_t *manifest = parsed(signed_part, "manifest.json");
  check_manifest(&archive, manifest, minimum_version);
  json_t *table = parsed(find(&archive, "catalogue.json")->part, "catalogue.json");
  json_t *thresholds = parsed(find(&archive, "thresholds.json")->part, "thresholds.json");
  Bundle bundle = {
      .version = json_integer_value(json_object_get(manifest, "version")),
      .created = json_integer_value(json_object_get(manifest, "created")),
      .model = find(&archive, "recogniser.tflite")->part,
      .embeddings = find(&archive, "embeddings.i8")->part,
      .scales = find(&archive, "scales.f4")->part,
      .creatives = json_object_get(table, "creatives"),
      .count = json_array_size(json_object_get(table, "creatives")),
      .dimension = (size_t)json_integer_value(json_object_get(table, "dimension")),
      .known = json_number_value(json_object_get(thresholds, "known")),
  };
  if (!json_is_array(bundle.creatives) || !json_is_number(json_object_get(thresholds, "known")) ||
      bundle.embeddings.size != bundle.count * bundle.dimension || bundle.scales.size != bundle.count * sizeof(float))
    refuse("unfit", "its parts do not fit together");
  for (size_t row = 0; row < bundle.count; row++) {
    float scale;
    memcpy(&scale, bundle.scales.content + row * sizeof scale, sizeof scale);
    if (!isfinite(scale)) refuse("unfit", "its parts do not fit together: a scale is no number");
  }
  write_sha256((Part){content, size}, bundle.sha256);
  return bundle;
}
