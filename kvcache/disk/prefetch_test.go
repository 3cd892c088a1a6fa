package disk

import "testing"

// TestPrefetchChangesNothing prefetches records that are there, that are not, and of tenants that nobody knows.
func TestPrefetchChangesNothing(t *testing.T) {
	store, err := Open(Options{Dir: t.TempDir(), MaxBytes: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	data := []byte("a block")
	if !store.Put(Record{Tenant: "a", Key: Key{1}, Data: data}) {
		t.Fatal("the store took nothing")
	}
	keys := []Key{{1}, {2}}
	store.Prefetch("a", keys) // it may be queued still
	if err := store.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := store.Stats()
	store.Prefetch("a", keys)
	store.Prefetch("b", keys)
	store.Prefetch("a", nil)
	if after := store.Stats(); after != before {
		t.Errorf("stats were %+v and are %+v", before, after)
	}
	got := make([]byte, 100)
	if n, err := store.Read("a", Key{1}, Block, got); err != nil || string(got[:n]) != string(data) {
		t.Errorf("read %q, %v", got[:n], err)
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
	store.Prefetch("a", keys)
}
