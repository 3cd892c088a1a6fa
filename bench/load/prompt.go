package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
)

// words are common and short: one token each in most vocabularies.
var words = strings.Fields(`time people way water day part place work case week point home room area story fact month
	night right study book eye job word business issue side kind head house service friend father power hour game line
	end member law car city name team minute idea body back parent face level office door health person art war history
	party result change morning reason research girl guy moment air teacher force education`)

// prompts makes the prompts of a run. It is safe for concurrent use.
type prompts struct {
	mu     sync.Mutex // guards random
	random *rand.Rand

	shared string // the words that all prompts begin with
	own    int    // words of each prompt after them
}

// calibrate finds how many words make a prompt of the wanted length. It asks the server for the length of two prompts
// and takes tokens to grow in proportion to words, on top of what the chat template adds.
func calibrate(ctx context.Context, c client, o *Options) (*prompts, error) {
	p := &prompts{random: rand.New(rand.NewPCG(o.Seed, 0x9e3779b97f4a7c15))}
	const few, more = 8, 40
	var lengths [2]int
	for i, n := range []int{few, more} {
		answer, err := c.chat(ctx, call{model: o.Model, prompt: p.words(n), maxTokens: 1})
		if err != nil {
			return nil, fmt.Errorf("load: request to %s: %w", o.Target, err)
		}
		if answer.promptTokens == 0 {
			return nil, fmt.Errorf("load: %s reports no count of prompt tokens", o.Target)
		}
		lengths[i] = answer.promptTokens
	}
	perWord := float64(lengths[1]-lengths[0]) / (more - few)
	if perWord <= 0 {
		return nil, fmt.Errorf("load: %s counts %d tokens for %d words and %d for %d", o.Target, lengths[0], few, lengths[1], more)
	}
	overhead := float64(lengths[0]) - few*perWord
	total := max(int((float64(o.PromptTokens)-overhead)/perWord+0.5), 1)
	common := int(float64(total) * o.SharedPrefix)
	p.shared, p.own = p.words(common), max(total-common, 1)
	return p, nil
}

// call returns the next request. Prompts differ from their first own word on, so that a server's prefix cache finds the
// shared part alone.
func (p *prompts) call(o *Options) call {
	text := p.words(p.own)
	if p.shared != "" {
		text = p.shared + " " + text
	}
	return call{model: o.Model, prompt: text, maxTokens: o.MaxTokens, stopEarly: o.StopEarly}
}

// words returns n words drawn at random.
func (p *prompts) words(n int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(words[p.random.IntN(len(words))])
	}
	return b.String()
}
