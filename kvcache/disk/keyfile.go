package disk

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

const keyBytes = 32

// KeyFile is a file that holds a random key, for its owner alone. It is made once and never changed. Its one line is
//
//	prefix, 64 hexadecimal digits, line feed
type KeyFile struct {
	Path   string
	Prefix string // says what the key is for
}

// Load returns the key, and makes the file where there is none. A file that is there and holds no such key is an error: it
// may be somebody's, or the only copy of a key. Of several processes that make the file, all get the one key that is kept.
func (k KeyFile) Load() (key [keyBytes]byte, err error) {
	key, _, err = k.load(osFiles{})
	return key, err
}

// load also says whether it made the file.
func (k KeyFile) load(files fileSystem) (key [keyBytes]byte, made bool, err error) {
	key, err = k.read(files)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, false, err
	}
	rand.Read(key[:])
	if err = k.write(files, key); errors.Is(err, fs.ErrExist) {
		key, err = k.read(files) // another process was faster
		return key, false, err
	}
	return key, true, err
}

func (k KeyFile) read(files fileSystem) (key [keyBytes]byte, err error) {
	f, err := files.Open(k.Path, os.O_RDONLY)
	if err != nil {
		return key, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return key, err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return key, fmt.Errorf("%s may be used by others than its owner, its mode is %#o: make it 0600", k.Path, info.Mode().Perm())
	}
	line := make([]byte, len(k.Prefix)+2*keyBytes+1)
	if info.Size() != int64(len(line)) {
		return key, fmt.Errorf("%s holds no key: it has %d bytes, want %d", k.Path, info.Size(), len(line))
	}
	if _, err := f.ReadAt(line, 0); err != nil && err != io.EOF {
		return key, err
	}
	digits, ok := strings.CutPrefix(strings.TrimSuffix(string(line), "\n"), k.Prefix)
	if n, err := hex.Decode(key[:], []byte(digits)); !ok || err != nil || n != keyBytes {
		return [keyBytes]byte{}, fmt.Errorf("%s holds no key: want %q and %d hexadecimal digits", k.Path, k.Prefix, 2*keyBytes)
	}
	return key, nil
}

// write makes a file that is whole or not there; fs.ErrExist when there is one already.
func (k KeyFile) write(files fileSystem, key [keyBytes]byte) error {
	line := []byte(k.Prefix + hex.EncodeToString(key[:]) + "\n")
	aside := k.Path + ".new-" + rand.Text() // of this process alone: others may be making the file, too
	defer files.Remove(aside)
	if err := writeFile(files, aside, line); err != nil {
		return err
	}
	err := files.Link(aside, k.Path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		err = writeFile(files, k.Path, line) // not every file system has links
	}
	if err != nil {
		return err
	}
	return files.SyncDir(filepath.Dir(k.Path))
}

// writeFile writes a file that must not be there yet.
func writeFile(files fileSystem, path string, data []byte) error {
	f, err := files.Open(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	return errors.Join(err, f.Sync(), f.Close())
}
