package weights

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
)

// A split model is cut into files NAME-00001-of-00003.gguf and so on. Each is a GGUF file with some of the tensors and
// the keys split.no (from 0), split.count and split.tensors.count; the first also has the model's metadata.

var partName = regexp.MustCompile(`^(.*)-(\d{5})-of-(\d{5})\.gguf$`)

// openParts adds the tensors of the other parts when s, opened from path, is the first part of a split file.
func (s *source) openParts(path string) error {
	count := s.md.splitCount()
	if count <= 1 {
		return nil
	}
	match := partName.FindStringSubmatch(filepath.Base(path))
	if match == nil {
		return fmt.Errorf("%w: a part of a split file is named NAME-00001-of-%05d.gguf; this one was renamed", ErrUnsupported, count)
	}
	stem := filepath.Join(filepath.Dir(path), match[1])
	if no, ok := s.md.Uint("split.no"); !ok || no != 0 {
		return fmt.Errorf("%w: this is not the first part of the split file: open %s", ErrUnsupported, partPath(stem, 1, count))
	}
	if n, err := strconv.ParseUint(match[3], 10, 64); err != nil || n != count {
		return fmt.Errorf("%w: key split.count is %d, the file's name says %s", ErrCorrupt, count, match[3])
	}
	for i := uint64(2); i <= count; i++ {
		if err := s.openPart(partPath(stem, i, count), i-1, count); err != nil {
			return err
		}
	}
	if total, ok := s.md.Uint("split.tensors.count"); ok && total != uint64(len(s.names)) {
		return fmt.Errorf("%w: key split.tensors.count is %d, the parts have %d tensors", ErrCorrupt, total, len(s.names))
	}
	return nil
}

// openPart adds the tensors of one further part.
func (s *source) openPart(path string, no, count uint64) error {
	m, err := openMapping(path)
	if err != nil {
		return err
	}
	s.files = append(s.files, m) // closed with s
	part, err := parseGGUF(m.data)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if n, ok := part.md.Uint("split.no"); !ok || n != no {
		return fmt.Errorf("%w: %s: key split.no is %d, want %d", ErrCorrupt, path, n, no)
	}
	if n := part.md.splitCount(); n != count {
		return fmt.Errorf("%w: %s: key split.count is %d, want %d", ErrCorrupt, path, n, count)
	}
	for _, name := range part.names {
		e := part.tensors[name]
		if err := s.add(e.Tensor, e.parts...); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

func partPath(stem string, i, count uint64) string {
	return fmt.Sprintf("%s-%05d-of-%05d.gguf", stem, i, count)
}
