package weights

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// stoppable is a model of several tensors.
func stoppable(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "source.gguf")
	md := NewMetadata()
	md.Set("general.architecture", "toy")
	tensors := []NewTensor{normalTensor("token_embd.weight", 1, 600, 256)}
	for i, name := range []string{"attn_q", "attn_k", "attn_v", "ffn_up"} {
		tensors = append(tensors, normalTensor("blk.0."+name+".weight", uint64(i+2), 300, 256))
	}
	if err := SaveGGUF(path, md, tensors); err != nil {
		t.Fatal(err)
	}
	return path
}

// stopAfter converts until this part of the source is done, and returns the path of the result that is not there.
func stopAfter(t testing.TB, source, recipe string, part float64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.gguf")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	plan, err := PlanConversion(open(t, source), ConvertOptions{Recipe: recipeOf(t, recipe), Workers: 1, Progress: func(done, all int64) {
		if float64(done) >= part*float64(all) {
			cancel()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plan.Save(ctx, path); !errors.Is(err, context.Canceled) {
		t.Fatalf("a conversion that was stopped: %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Fatal("a conversion that was stopped left its result")
	}
	return path
}

// goOn converts again, after a refusal if the file in the making must be replaced first, and compares with a conversion
// that was not stopped.
func goOn(t testing.TB, source, recipe, path, refusal string) (kept int, earlier Finished) {
	t.Helper()
	plan, err := PlanConversion(open(t, source), ConvertOptions{Recipe: recipeOf(t, recipe)})
	if err != nil {
		t.Fatal(err)
	}
	var last, total int64
	plan.options.Progress = func(done, all int64) { last, total = done, all }
	plan.options.Resuming = func(f Finished) { earlier = f }
	kept, err = plan.Save(t.Context(), path)
	if refusal != "" {
		if !errors.Is(err, ErrOccupied) || !strings.Contains(err.Error(), refusal) {
			t.Errorf("%v, want %q", err, refusal)
		}
		plan.options.Replace = true
		kept, err = plan.Save(t.Context(), path)
	}
	if err != nil {
		t.Fatal(err)
	}
	if f := plan.Finished(); f.Tensors != len(plan.Tensors()) || f.Bytes != total {
		t.Errorf("at the end %+v is finished, of %d bytes", f, total)
	}
	if last != total || total == 0 {
		t.Errorf("at the end %d of %d bytes are done", last, total)
	}
	whole, err := PlanConversion(open(t, source), ConvertOptions{Recipe: recipeOf(t, recipe), Workers: 1})
	if err == nil {
		_, err = whole.Save(t.Context(), path+".whole")
	}
	if err != nil {
		t.Fatal(err)
	}
	got, _ := os.ReadFile(path)
	want, _ := os.ReadFile(path + ".whole")
	if !bytes.Equal(got, want) {
		t.Errorf("the file of a conversion that was stopped differs")
	}
	for i, tensor := range plan.Tensors() {
		if tensor.Error != whole.Tensors()[i].Error {
			t.Errorf("%s: error %+v, want %+v", tensor.Name, tensor.Error, whole.Tensors()[i].Error)
		}
	}
	return kept, earlier
}

func TestPartialGoesOn(t *testing.T) {
	source := stoppable(t)
	path := stopAfter(t, source, "q4_k_m", 0.7)
	if _, err := Open(PartialPath(path)); err == nil {
		t.Error("a file in the making opens as a model")
	}
	const done = 4 * (600*256 + 2*300*256 + 256*256) // three tensors, and a piece of the fourth
	if kept, earlier := goOn(t, source, "q4_k_m", path, ""); kept != 3 || earlier != (Finished{Tensors: 3, Bytes: done}) {
		t.Errorf("%d tensors were kept, of %+v, want 3 and %d bytes", kept, earlier, done)
	}
}

// TestPartialKeepsRows stops in the first tensor: the rows that were finished stay, and are not made again.
func TestPartialKeepsRows(t *testing.T) {
	source := stoppable(t)
	path := stopAfter(t, source, "q4_k_m", 0.1)
	plan, err := PlanConversion(open(t, source), ConvertOptions{Recipe: recipeOf(t, "q4_k_m")})
	if err != nil {
		t.Fatal(err)
	}
	head, err := plan.partialHead()
	if err != nil {
		t.Fatal(err)
	}
	p, err := openPartial(PartialPath(path), &plan.layout, head, false)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := plan.convertTensor(t.Context(), 0, p)
	if records := (p.end - plan.layout.size) / recordBytes; err != nil || kept || records != 3 {
		t.Errorf("%d records of 3 pieces, of which one was finished: %v, %v", records, kept, err)
	}
	p.close()
	if kept, earlier := goOn(t, source, "q4_k_m", path, ""); kept != 1 || earlier.Tensors != 1 {
		t.Errorf("%d tensors were kept, of %+v, want 1", kept, earlier)
	}
}

// TestPartialStartsOver changes what a conversion depends on, or damages its file.
func TestPartialStartsOver(t *testing.T) {
	overwrite := func(t *testing.T, path string, at int64, data ...byte) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err == nil {
			_, err = f.WriteAt(data, at)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	size := func(t *testing.T, path string) int64 {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	for _, c := range []struct {
		name    string
		recipe  string
		change  func(t *testing.T, source, partial string)
		refusal string
		kept    int
	}{
		{"nothing", "q4_k_m", func(*testing.T, string, string) {}, "", 3},
		{"other recipe", "q5_k_m", func(*testing.T, string, string) {}, "a conversion to Q4_K_M that was stopped", 0},
		{"other time", "q4_k_m", func(t *testing.T, source, _ string) {
			if err := os.Chtimes(source, time.Time{}, time.Unix(1, 0)); err != nil {
				t.Fatal(err)
			}
		}, "a conversion to Q4_K_M, of another source or with other options,", 0},
		{"other weights of the same time", "q4_k_m", func(t *testing.T, source, _ string) {
			info, err := os.Stat(source)
			if err != nil {
				t.Fatal(err)
			}
			overwrite(t, source, size(t, source)-8, 0, 0, 0, 0x3f)
			if err := os.Chtimes(source, time.Time{}, info.ModTime()); err != nil {
				t.Fatal(err)
			}
		}, "a conversion to Q4_K_M, of another source or with other options,", 0},
		{"damaged tensor", "q4_k_m", func(t *testing.T, _, partial string) { overwrite(t, partial, 5000, 0xff, 0xff, 0xff) }, "", 2},
		{"damaged record", "q4_k_m", func(t *testing.T, _, partial string) { overwrite(t, partial, size(t, partial)-recordBytes-1, 0x99) }, "", 2},
		{"record cut off", "q4_k_m", func(t *testing.T, _, partial string) {
			if err := os.Truncate(partial, size(t, partial)-recordBytes-1); err != nil {
				t.Fatal(err)
			}
		}, "", 2},
		{"record of no tensor", "q4_k_m", func(t *testing.T, _, partial string) { overwrite(t, partial, size(t, partial)-2*recordBytes+3, 0x99) }, "", 2},
		{"record of no piece", "q4_k_m", func(t *testing.T, _, partial string) { overwrite(t, partial, size(t, partial)-2*recordBytes+7, 0x99) }, "", 2},
		{"no records", "q4_k_m", func(t *testing.T, _, partial string) {
			if err := os.Truncate(partial, 1000); err != nil {
				t.Fatal(err)
			}
		}, "", 0},
		{"something else", "q4_k_m", func(t *testing.T, _, partial string) {
			if err := os.WriteFile(partial, bytes.Repeat([]byte("junk"), 1<<18), 0o644); err != nil {
				t.Fatal(err)
			}
		}, "no conversion that was stopped", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			source := stoppable(t)
			path := stopAfter(t, source, "q4_k_m", 0.7)
			c.change(t, source, PartialPath(path))
			if kept, _ := goOn(t, source, c.recipe, path, c.refusal); kept != c.kept {
				t.Errorf("%d tensors were kept, want %d", kept, c.kept)
			}
		})
	}
}

// TestPartialIsLocked begins a second conversion to the same file while one runs.
func TestPartialIsLocked(t *testing.T) {
	source := stoppable(t)
	path := filepath.Join(t.TempDir(), "x.gguf")
	var second error
	first, err := PlanConversion(open(t, source), ConvertOptions{Recipe: recipeOf(t, "q8_0"), Progress: func(done, all int64) {
		if done < all || second != nil {
			return
		}
		other, err := PlanConversion(open(t, source), ConvertOptions{Recipe: recipeOf(t, "q8_0")})
		if err == nil {
			_, err = other.Save(t.Context(), path)
		}
		second = err
	}})
	if err == nil {
		_, err = first.Save(t.Context(), path)
	}
	if err != nil {
		t.Fatal(err)
	}
	if second == nil || !strings.Contains(second.Error(), "another conversion writes it") {
		t.Errorf("a second conversion to the same file: %v", second)
	}
}

// TestPartialRemoved removes the file in the making: the conversion fails, and leaves what another one may have put there.
func TestPartialRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.gguf")
	plan, err := PlanConversion(open(t, stoppable(t)), ConvertOptions{Recipe: recipeOf(t, "q8_0"), Progress: func(done, all int64) {
		if done == all {
			if err := errors.Join(os.Remove(PartialPath(path)), os.WriteFile(PartialPath(path), []byte("another"), 0o644)); err != nil {
				t.Error(err)
			}
		}
	}})
	if err == nil {
		_, err = plan.Save(t.Context(), path)
	}
	if err == nil || !strings.Contains(err.Error(), "renamed or removed") {
		t.Errorf("%v, want an error that says so", err)
	}
	if data, err := os.ReadFile(PartialPath(path)); string(data) != "another" {
		t.Errorf("the other file holds %.20q, %v", data, err)
	}
}
