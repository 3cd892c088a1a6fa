// Package disk keeps the bytes of cache blocks and states in files, so that what was computed outlives the process.
//
// A record is found by its key, a keyed hash of everything that its bytes depend on: equal prefixes are stored once, and
// a record that is damaged, cut short or written for another model is a miss, never a wrong answer. Records are encrypted,
// each tenant's with a key of its own. The package knows nothing about tokens, models or devices.
//
// # The folder
//
//	lock                      locked as long as a process has the folder open
//	key                       the secret, unless it lies elsewhere: see Options.KeyFile
//	tenants                   the tenants' salts
//	0000000000000001.segment  records, one behind the other
//	0000000000000001.index    where they are: made anew from the segment when it is lost
//	…
//
// Segments are only appended to, and their records erased; when little is left of one, that is copied to the end of the
// newest, and the file removed. All numbers are little-endian; a checksum is a CRC-32C of the bytes that are named.
//
// A segment begins with a header and goes on with records:
//
//	offset  size
//	     0     8  "hearths1"; "hearthi1" in an index
//	     8    16  random id, the same in both
//	    24     4  0
//	    28     4  checksum of bytes 0 to 28
//
//	     0     4  "hkv1", a record
//	     4     8  tenant: derived from its salt
//	    12     4  n, size of the data
//	    16    12  nonce, random
//	    28     4  checksum of bytes 0 to 28 and 32 to 136
//	    32    88  sealed: 32 key, 32 key of the block before or 0,
//	              1 kind, 3 zero, 4 length of the prefix in tokens,
//	              8 nanoseconds to compute it again, 8 rank when written (float64)
//	   120    16  tag of the above; authentic with it: bytes 0 to 28
//	   136     n  sealed: the data
//	 136+n    16  tag of the data; authentic with it: bytes 0 to 136
//
// Sealed is AES-256-GCM with the nonce of the record, under the tenant's key for headers and for data. A record
// that was erased has another header, of which the rest is zero:
//
//	 0     4  "hkx1": the rest up to the next record is nothing; "hke1": it is about to be overwritten
//	12     4  size of the rest, less 152
//	28     4  checksum as above
//
// Behind bytes that are no header the next one is searched for. Of two records with one key the later holds, if it is whole.
//
// An index has a slot for each record that was ever written to its segment, in the same order:
//
//	  0     8  offset of the record in the segment
//	  8   136  its header, or what is left of it
//	144     4  checksum of bytes 0 to 144
//	148     4  0
//	152     8  rank when the store was closed (float64)
//
// The file of tenants has a slot of 64 bytes for each; zeros for none:
//
//	 0    16  keyed hash of the name
//	16    32  salt, random
//	48    16  keyed hash of the above
//
// The key file is one line: "hearth-cache-key-1 ", 64 hexadecimal digits, line feed. From this secret and a salt
// HKDF-SHA-256 derives a tenant's two AES keys and its id, and without a salt the keys of the two hashes (HMAC-SHA-256, of
// which the first 16 bytes are used).
//
// # What the encryption protects
//
// Whoever gets hold of the folder but not of the key file — a stolen disk, a backup, another user of the machine who
// can read the one but not the other — learns how many tenants there are, and number, sizes and age of records; not what
// they hold, nor for which prompts, since keys are sealed too. Whoever can also change the folder can make records vanish,
// or bring back those that were there before, but cannot make a store return data for a key that it did not write for that
// key and that tenant. A tenant's records are only found and decrypted under its name.
//
// It does not protect from who can read the key file or the memory of the process, which hold everything; nor does it hide
// from a tenant's own requests, by their speed, which of its prefixes are stored.
//
// Remove overwrites what the files hold of a record, durably, before it gives the space back; RemoveTenant overwrites the
// salt as well, so that not even the key file helps any more. File systems and drives that write elsewhere than they are
// told (copy on write, snapshots, the spare blocks of an SSD) may keep older bytes, and so do the free blocks of the file
// system for records that gave way or were moved by compaction earlier: these are encrypted, under a key that is gone only
// when the tenant is.
//
// Nonces are random: a tenant should not write more than 2³² records under one salt, which is 64 TiB of the smallest
// blocks in use (NIST SP 800-38D, section 8.3).
package disk
