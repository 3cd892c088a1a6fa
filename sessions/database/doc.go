// Package database keeps conversations on SQLite: their items, responses, exact token logs and usage. What a call has
// acknowledged survives the end of the process at any instant.
//
// Every row belongs to a tenant, and every call names one: what another tenant has is not found. All methods are safe for
// concurrent use.
package database
