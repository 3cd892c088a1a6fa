package main

import "testing"

// assembled are instructions as the GNU assembler 2.40 encodes them for armv8.6-a, at least one of each in encodings.
var assembled = []struct {
	text string
	word uint32
}{
	{"FADD V16.4S, V22.4S, V1.4S", 0x4e21d6d0},
	{"FSUB V3.4S, V10.4S, V7.4S", 0x4ea7d543},
	{"FMUL V15.4S, V24.4S, V6.4S", 0x6e26df0f},
	{"FDIV V26.4S, V17.4S, V11.4S", 0x6e2bfe3a},
	{"FMAX V4.4S, V8.4S, V28.4S", 0x4e3cf504},
	{"FMIN V13.4S, V10.4S, V18.4S", 0x4eb2f54d},
	{"FMAXNM V13.4S, V11.4S, V12.4S", 0x4e2cc56d},
	{"FMLA V1.4S, V23.4S, V26.4S", 0x4e3acee1},
	{"FMLS V16.4S, V4.4S, V21.4S", 0x4eb5cc90},
	{"FADDP V21.4S, V4.4S, V19.4S", 0x6e33d495},
	{"FMLA V20.4S, V11.4S, V30.S[1]", 0x4fbe1174},
	{"FMLS V22.4S, V25.4S, V1.S[3]", 0x4fa15b36},
	{"FMUL V0.4S, V28.4S, V2.S[1]", 0x4fa29380},
	{"FABS V15.4S, V29.4S", 0x4ea0fbaf},
	{"FNEG V23.4S, V18.4S", 0x6ea0fa57},
	{"FRINTN V13.4S, V21.4S", 0x4e218aad},
	{"FCVTNS V5.4S, V19.4S", 0x4e21aa65},
	{"FCVTL V19.4S, V30.4H", 0x0e217bd3},
	{"FCVTL2 V25.4S, V2.8H", 0x4e217859},
	{"FCVTN V29.4H, V26.4S", 0x0e216b5d},
	{"FCVTN2 V31.8H, V21.4S", 0x4e216abf},
	{"FADDP S6, V10.2S", 0x7e30d946},
	{"FMAXNMV S3, V26.4S", 0x6e30cb43},
	{"SCVTF V10.4S, V29.4S", 0x4e21dbaa},
	{"SCVTF V17.4S, V18.4S, #4", 0x4f3ce651},
	{"MUL V7.4S, V24.4S, V11.4S", 0x4eab9f07},
	{"MLA V11.4S, V5.4S, V31.4S", 0x4ebf94ab},
	{"SMULL V4.8H, V22.8B, V2.8B", 0x0e22c2c4},
	{"SMULL2 V17.8H, V31.16B, V16.16B", 0x4e30c3f1},
	{"SADALP V11.4S, V0.8H", 0x4e60680b},
	{"SADDLV H17, V29.16B", 0x4e303bb1},
	{"UMAXV S22, V11.4S", 0x6eb0a976},
	{"SHLL V9.4S, V10.4H, #16", 0x2e613949},
	{"SHLL2 V18.4S, V5.8H, #16", 0x6e6138b2},
	{"USHLL V17.8H, V1.8B, #0", 0x2f08a431},
	{"USHLL2 V11.8H, V14.16B, #0", 0x6f08a5cb},
	{"USHLL V3.4S, V8.4H, #0", 0x2f10a503},
	{"USHLL2 V30.4S, V12.8H, #0", 0x6f10a59e},
	{"SSHLL V22.8H, V24.8B, #0", 0x0f08a716},
	{"SSHLL2 V23.8H, V0.16B, #0", 0x4f08a417},
	{"SSHLL V26.4S, V7.4H, #0", 0x0f10a4fa},
	{"SSHLL2 V6.4S, V18.8H, #0", 0x4f10a646},
	{"SSHR V26.4S, V23.4S, #7", 0x4f3906fa},
	{"SQXTN V24.4H, V30.4S", 0x0e614bd8},
	{"SQXTN2 V22.8H, V0.4S", 0x4e614816},
	{"SQXTN V9.8B, V20.8H", 0x0e214a89},
	{"SQXTN2 V31.16B, V18.8H", 0x4e214a5f},
	{"SDOT V16.4S, V19.16B, V31.4B[2]", 0x4f9fea70},
	{"SMMLA V19.4S, V31.16B, V18.16B", 0x4e92a7f3},
}

func TestEncode(t *testing.T) {
	tested := map[string]bool{}
	for _, c := range assembled {
		if got := encode(c.text); got != c.word {
			t.Errorf("%s is %#08x, want %#08x", c.text, got, c.word)
		}
		tested[armOperand.ReplaceAllString(c.text, "$1")] = true
	}
	for shape := range encodings {
		if !tested[shape] {
			t.Errorf("%s is not tested", shape)
		}
	}
}

// TestEncodeRefuses checks that operands which do not fit stop the generator.
func TestEncodeRefuses(t *testing.T) {
	for _, text := range []string{
		"FADD V0.4S, V1.4S, V32.4S", "FMLA V0.4S, V1.4S, V2.S[4]", "SSHR V0.4S, V1.4S, #65", "SHLL V0.4S, V1.4H, #17", "FADD V0.2D, V1.2D, V2.2D",
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s was encoded", text)
				}
			}()
			encode(text)
		}()
	}
}
