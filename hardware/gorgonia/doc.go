// Package gorgonia is the independent device: it computes matrix products, norms, softmax, gated linear units,
// additions and the core of attention as Gorgonia graphs (gorgonia.org/gorgonia), one graph for each operation and
// shape, on weights dequantized to float32.
//
// It shares no arithmetic with the CPU device, and is far slower: it exists to check it, on the conformance suite and
// on whole small models. What is only movement of rows (embedding, gathering, storing) and the rotation by position
// are plain Go.
//
// It claims tolerance, not exactness: Gorgonia's products sum in an order that depends on the shape, so a row's last bits
// depend on the rows beside it.
package gorgonia
