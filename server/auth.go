package server

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"hearth/sessions"
)

// scope says who may use a route. The zero value is no scope: a route without one does not start the server.
type scope uint8

const (
	scopeNone      scope = iota
	scopePublic          // anyone who reaches the server: whether it lives
	scopeInference       // holders of a key: models, answers
	scopeMetrics         // holders of a key: what the server does
)

// APIKey lets its holders use the server as a tenant: what one tenant keeps and has computed, no other one finds.
type APIKey struct {
	Tenant string // empty: sessions.DefaultTenant
	Key    string
}

// keyring holds the hashes of the API keys. Comparing hashes of equal length in constant time tells nothing about a
// key, not even its length.
type keyring []hashedKey

type hashedKey struct {
	hash   [sha256.Size]byte
	tenant string
}

func newKeyring(keys []APIKey) keyring {
	ring := make(keyring, len(keys))
	for i, k := range keys {
		ring[i] = hashedKey{sha256.Sum256([]byte(k.Key)), cmp.Or(k.Tenant, sessions.DefaultTenant)}
	}
	return ring
}

// tenant returns whose key it is. Every key is compared, so that the time says nothing about which one it was.
func (k keyring) tenant(key string) (string, bool) {
	hash := sha256.Sum256([]byte(key))
	found := -1
	for i := range k {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(hash[:], k[i].hash[:]), i, found)
	}
	if found < 0 {
		return "", false
	}
	return k[found].tenant, true
}

// checkAPIKeys names the first key that no client could send, that is somebody else's too, or whose tenant has no proper name.
func checkAPIKeys(keys []APIKey) error {
	holders := map[string]string{}
	for _, k := range keys {
		if k.Key == "" || strings.TrimSpace(k.Key) != k.Key {
			return errors.New("server: option APIKeys has a key that is empty or begins or ends with a space")
		}
		if k.Tenant != "" && !isTenantName(k.Tenant) {
			return fmt.Errorf("server: option APIKeys has the tenant %q, want 1 to 64 letters, digits, '.', '_' or '-'", shorten(k.Tenant))
		}
		tenant := cmp.Or(k.Tenant, sessions.DefaultTenant)
		if other, ok := holders[k.Key]; ok && other != tenant {
			return fmt.Errorf("server: option APIKeys has one key for two tenants, %s and %s", other, tenant)
		}
		holders[k.Key] = tenant
	}
	return nil
}

// isTenantName reports whether a tenant's name can be shown in a log, a metric and a list as it is.
func isTenantName(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

// authorize checks the key of a request and returns the tenant that sent it. Without keys everyone is let in: the server
// then listens on loopback only, or was told that this is intended.
func (s *Server) authorize(r *http.Request, need scope) (tenant string, err error) {
	if need == scopePublic || len(s.keys) == 0 {
		return sessions.DefaultTenant, nil
	}
	var given []string
	for _, h := range r.Header["Authorization"] {
		scheme, key, _ := strings.Cut(h, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return "", unauthorized("the Authorization header must be: Bearer KEY")
		}
		given = append(given, strings.TrimSpace(key))
	}
	given = append(given, r.Header["X-Api-Key"]...)
	switch {
	case len(given) == 0:
		return "", unauthorized("an API key is needed: send the header Authorization: Bearer KEY")
	case len(given) > 1: // proxies and servers disagree about which one counts
		return "", unauthorized("more than one API key was sent")
	}
	tenant, ok := s.keys.tenant(given[0])
	if !ok {
		return "", unauthorized("the API key is not valid")
	}
	return tenant, nil
}

func unauthorized(message string) error {
	return &wireError{Status: http.StatusUnauthorized, Type: typeInvalidRequest, Code: "invalid_api_key", Message: message, Final: true}
}

func forbidden(code, message string) error {
	return &wireError{Status: http.StatusForbidden, Type: typePermission, Code: code, Message: message, Final: true}
}

// checkHost refuses requests that name another host than this one. A web page can make its own name resolve to
// 127.0.0.1 and so reach a server on loopback, but its browser still sends that name (DNS rebinding).
func (s *Server) checkHost(r *http.Request) error {
	host, ok := hostName(r.Host)
	if ok && (isLoopback(host) || slices.Contains(s.hosts, host)) {
		return nil
	}
	if _, err := netip.ParseAddr(host); ok && err == nil && s.anyAddress { // an address is no name that could be rebound
		return nil
	}
	return forbidden("host_not_allowed", fmt.Sprintf("this server does not answer for the host %q; whoever runs it can add the name to its allowed hosts (hearth serve --allowed-host NAME)", shorten(r.Host)))
}

// hostName returns the lower-case name or address of a Host header, without port, brackets and final dot.
func hostName(header string) (string, bool) {
	host := header
	if strings.HasPrefix(host, "[") || strings.Count(host, ":") == 1 {
		if name, port, err := net.SplitHostPort(host); err == nil {
			if !isPort(port) {
				return "", false
			}
			host = name
		} else if inner, ok := strings.CutPrefix(host, "["); ok {
			if host, ok = strings.CutSuffix(inner, "]"); !ok {
				return "", false
			}
		} else {
			return "", false
		}
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host, host != ""
}

func isPort(s string) bool {
	return s != "" && len(s) <= 5 && strings.Trim(s, "0123456789") == ""
}

// isLoopback reports whether a name or address can only mean this machine: names under localhost do by RFC 6761.
func isLoopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// checkOrigin refuses what another web site's page makes a browser send, unless that site was allowed.
func (s *Server) checkOrigin(r *http.Request) error {
	if s.anyOrigin || s.crossOrigin.Check(r) == nil {
		return nil
	}
	return forbidden("origin_not_allowed", fmt.Sprintf("pages of %q may not use this server", shorten(r.Header.Get("Origin"))))
}

// allowedHeaders are the request headers that pages may send: OpenAI's SDKs add the long ones.
const allowedHeaders = "Authorization, Content-Type, Accept, User-Agent, X-Api-Key, X-Client-Request-Id, Idempotency-Key, OpenAI-Beta, " +
	"OpenAI-Organization, OpenAI-Project, X-Stainless-Arch, X-Stainless-Async, X-Stainless-Custom-Poll-Interval, " +
	"X-Stainless-Helper-Method, X-Stainless-Lang, X-Stainless-OS, X-Stainless-Package-Version, X-Stainless-Poll-Helper, " +
	"X-Stainless-Retry-Count, X-Stainless-Runtime, X-Stainless-Runtime-Version, X-Stainless-Timeout"

// cors writes what lets pages of an allowed origin read the answer. It reports whether the request was a browser's
// question beforehand, which the headers answer.
func (s *Server) cors(r *http.Request, h http.Header) (preflight bool) {
	origin := r.Header.Get("Origin")
	if origin == "" || !s.anyOrigin && !slices.Contains(s.opts.CORSOrigins, origin) {
		return false
	}
	h.Add("Vary", "Origin")
	if s.anyOrigin {
		origin = "*"
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", "X-Request-Id, OpenAI-Processing-Ms, OpenAI-Model, Retry-After")
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h.Set("Access-Control-Allow-Methods", "GET, POST, DELETE, HEAD, OPTIONS")
	h.Set("Access-Control-Allow-Headers", allowedHeaders)
	h.Set("Access-Control-Max-Age", "600")
	return true
}

// ErrUnprotected says that the server would be open to other machines without asking for a key.
var ErrUnprotected = errors.New("no API key is set")

// checkBind refuses to offer the server to a network without a key.
func checkBind(host string, keys []APIKey, insecure bool) error {
	if isLoopback(strings.ToLower(host)) || len(keys) > 0 || insecure {
		return nil
	}
	if host == "" {
		host = "every address"
	}
	return fmt.Errorf("server: %s can be reached from other machines and %w: set one, listen on 127.0.0.1, or say that this is intended", host, ErrUnprotected)
}
