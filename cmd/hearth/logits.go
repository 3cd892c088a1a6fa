package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"hearth/engine"
	"hearth/engine/model"
	"hearth/engine/weights"
	"hearth/hardware/quant"
)

func newLogitsCommand() *cobra.Command {
	var (
		device                               deviceFlags
		modelPath, tokens, positions, kvType string
		out                                  string
		chunk                                int
	)
	command := &cobra.Command{
		Use:   "logits --model M --tokens 1,2,3 --out F.safetensors",
		Short: "Compute a model's logits for a sequence of tokens",
		Long: `Runs the model once over a sequence of tokens and writes a safetensors file with the tensors
logits float32 [positions, vocab], tokens int32 [n] and positions int32 [positions].`,
		Example: "  hearth logits --model model.gguf --tokens 1,306,4658 --positions last --out logits.safetensors",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ids, err := parseInts(tokens)
			if err != nil {
				return fmt.Errorf("--tokens: %w", err)
			}
			where, err := parsePositions(positions, len(ids))
			if err != nil {
				return fmt.Errorf("--positions: %w", err)
			}
			kv, ok := quant.ByName(kvType)
			if !ok {
				return fmt.Errorf("--kv-type: unknown format %q", kvType)
			}
			switch {
			case out == "":
				return fmt.Errorf("--out is missing")
			case chunk < 1:
				return fmt.Errorf("--chunk: %d, want at least 1", chunk)
			}
			dev, err := device.open(warnings(cmd.ErrOrStderr()))
			if err != nil {
				return err
			}
			defer dev.Close()
			rows, err := logits(cmd.Context(), modelPath, ids, where, engine.LogitsOptions{Device: dev, KV: kv, Chunk: chunk})
			if err != nil {
				return err
			}
			return writeLogits(out, ids, where, rows)
		},
	}
	flags := command.Flags()
	device.add(flags)
	completeDevice(command)
	flags.StringVar(&modelPath, "model", "", "model file or folder (default: the embedded model)")
	flags.StringVar(&tokens, "tokens", "", "token ids, separated by commas")
	flags.StringVar(&positions, "positions", "all", "all, last, or positions separated by commas, ascending")
	flags.StringVar(&kvType, "kv-type", "f32", "format of the cache: f32, f16, bf16 or q8_0")
	flags.IntVar(&chunk, "chunk", 512, "tokens fed at once")
	flags.StringVar(&out, "out", "", "safetensors file to write")
	return command
}

func logits(ctx context.Context, path string, tokens []int32, positions []int, opts engine.LogitsOptions) ([][]float32, error) {
	src, err := engine.OpenSource(path)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	m, err := model.Load(src)
	if err != nil {
		return nil, err
	}
	return engine.Logits(ctx, m, tokens, positions, opts)
}

// writeLogits writes the tensors that the command promises.
func writeLogits(path string, tokens []int32, positions []int, rows [][]float32) error {
	var data []byte
	for _, row := range rows {
		for _, v := range row {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
		}
	}
	where := make([]int32, len(positions))
	for i, p := range positions {
		where[i] = int32(p)
	}
	return weights.SaveSafetensors(path, []weights.OutTensor{
		{Name: "logits", DType: "F32", Shape: []int{len(rows), len(rows[0])}, Data: data},
		{Name: "positions", DType: "I32", Shape: []int{len(where)}, Data: int32Bytes(where)},
		{Name: "tokens", DType: "I32", Shape: []int{len(tokens)}, Data: int32Bytes(tokens)},
	})
}

func int32Bytes(values []int32) []byte {
	var data []byte
	for _, v := range values {
		data = binary.LittleEndian.AppendUint32(data, uint32(v))
	}
	return data
}

// parseInts reads numbers separated by commas: token ids or positions.
func parseInts(list string) ([]int32, error) {
	var numbers []int32
	for field := range strings.SplitSeq(list, ",") {
		n, err := strconv.ParseInt(strings.TrimSpace(field), 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%q is not a number", field)
		}
		numbers = append(numbers, int32(n))
	}
	return numbers, nil
}

// parsePositions reads "all", "last" or a list; -1 counts from the end.
func parsePositions(list string, n int) ([]int, error) {
	var positions []int
	switch list {
	case "all":
		for i := range n {
			positions = append(positions, i)
		}
		return positions, nil
	case "last":
		return []int{n - 1}, nil
	}
	numbers, err := parseInts(list)
	if err != nil {
		return nil, fmt.Errorf("want all, last, or a list of numbers: %w", err)
	}
	for _, p := range numbers {
		if p < 0 {
			p += int32(n)
		}
		positions = append(positions, int(p))
	}
	return positions, nil
}
