package server

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/url"
	"strings"
	"time"
)

// Options configure a server; the zero value works.
type Options struct {
	Addr     string   // where to listen; empty: 127.0.0.1:8080
	APIKeys  []APIKey // one of them is needed for all but public routes; none: everyone may
	Insecure bool     // listen beyond loopback without a key

	AllowedHosts []string // names and addresses in Host headers, beside localhost's and Addr's
	CORSOrigins  []string // origins whose pages may use the server: "https://example.org", or "*" for all

	MaxBodyBytes   int64         // of a request; 0: 16 MiB
	MaxImportBytes int64         // of an archive that is imported; 0: 16 GiB
	MaxHeaderBytes int           // of a request; 0: 64 KiB
	RequestTimeout time.Duration // most time for one answer; 0: an hour
	WriteTimeout   time.Duration // for a client to take one event; 0: 30 s
	KeepAlive      time.Duration // between signs of life in a stream that waits; 0: 15 s
	DrainTimeout   time.Duration // for running requests when the server stops; 0: 30 s

	Version string       // reported by /version
	Logger  *slog.Logger // nil: slog.Default

	// What makes answers differ from run to run; tests replace it.
	Now   func() time.Time           // nil: time.Now
	NewID func(prefix string) string // nil: 128 random bits
	Seed  func() uint64              // of requests that name none; nil: random
}

func (o *Options) setDefaults() {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:8080"
	}
	if o.MaxBodyBytes == 0 {
		o.MaxBodyBytes = 16 << 20
	}
	if o.MaxImportBytes == 0 {
		o.MaxImportBytes = 16 << 30
	}
	if o.MaxHeaderBytes == 0 {
		o.MaxHeaderBytes = 64 << 10
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&o.RequestTimeout, time.Hour}, {&o.WriteTimeout, 30 * time.Second},
		{&o.KeepAlive, 15 * time.Second}, {&o.DrainTimeout, 30 * time.Second},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if o.Version == "" {
		o.Version = "dev"
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.NewID == nil {
		o.NewID = randomID
	}
	if o.Seed == nil {
		o.Seed = mathrand.Uint64
	}
}

// Validate names the first field that is out of range.
func (o *Options) Validate() error {
	addr := o.Addr
	if addr == "" {
		addr = "127.0.0.1:8080"
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil || !isPort(port) {
		return fmt.Errorf("server: option Addr is %q, want HOST:PORT", o.Addr)
	}
	if err := checkBind(host, o.APIKeys, o.Insecure); err != nil {
		return err
	}
	if err := checkAPIKeys(o.APIKeys); err != nil {
		return err
	}
	for _, name := range o.AllowedHosts {
		if host, ok := hostName(name); !ok || host != strings.ToLower(name) {
			return fmt.Errorf("server: option AllowedHosts has %q, want a name or an address without port", name)
		}
	}
	for _, origin := range o.CORSOrigins {
		u, err := url.Parse(origin)
		if origin != "*" && (err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != origin) {
			return fmt.Errorf("server: option CORSOrigins has %q, want SCHEME://HOST[:PORT] or *", origin)
		}
	}
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"MaxBodyBytes", o.MaxBodyBytes}, {"MaxImportBytes", o.MaxImportBytes}, {"MaxHeaderBytes", int64(o.MaxHeaderBytes)},
		{"RequestTimeout", int64(o.RequestTimeout)}, {"WriteTimeout", int64(o.WriteTimeout)},
		{"KeepAlive", int64(o.KeepAlive)}, {"DrainTimeout", int64(o.DrainTimeout)},
	} {
		if f.value < 0 {
			return fmt.Errorf("server: option %s is %d, want at least 0", f.name, f.value)
		}
	}
	return nil
}

// randomID cannot be guessed, so that nobody can ask for another's answer.
func randomID(prefix string) string {
	var b [16]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return prefix + hex.EncodeToString(b[:])
}
