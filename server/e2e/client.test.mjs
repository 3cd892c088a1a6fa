// Drives the server with OpenAI's official JavaScript client. HEARTH_URL and HEARTH_MODEL name the server and the model.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';

const url = process.env.HEARTH_URL;
const model = process.env.HEARTH_MODEL;
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'unused', maxRetries: 0 });

const prompt = 'Once upon a time, there was a little girl named Lily.';

// request is a greedy chat of a number of tokens.
const request = (maxTokens, more = {}) => ({
  model,
  messages: [{ role: 'user', content: prompt }],
  max_completion_tokens: maxTokens,
  temperature: 0,
  ...more,
});

// running is the number of requests that the engine works on.
async function running() {
  const text = await (await fetch(`${url}/metrics`)).text();
  const lines = text.split('\n').filter((line) => line.startsWith('hearth_sequences_running'));
  assert.ok(lines.length > 0, 'the metric hearth_sequences_running is missing');
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
}

test('models', async () => {
  const ids = [];
  for await (const m of await client.models.list()) ids.push(m.id);
  assert.deepEqual(ids, [model]);
  assert.equal((await client.models.retrieve(model)).id, model);
});

test('chat', async () => {
  const answer = await client.chat.completions.create(request(24));
  assert.equal(answer.object, 'chat.completion');
  assert.ok(answer.choices[0].message.content.length > 0);
  assert.equal(answer.choices[0].finish_reason, 'length');
  assert.equal(answer.usage.completion_tokens, 24);
  assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + 24);
});

test('a stream equals the whole answer', async () => {
  const whole = await client.chat.completions.create(request(40));
  const stream = await client.chat.completions.create(request(40, { stream: true, stream_options: { include_usage: true } }));
  let text = '';
  let finish = null;
  let usage = null;
  for await (const chunk of stream) {
    assert.equal(chunk.object, 'chat.completion.chunk');
    for (const choice of chunk.choices) {
      text += choice.delta.content ?? '';
      finish = choice.finish_reason ?? finish;
    }
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, whole.choices[0].message.content);
  assert.equal(finish, 'length');
  assert.equal(usage.completion_tokens, 40);
});

test('the stream helper assembles the same message', async () => {
  const whole = await client.chat.completions.create(request(32));
  const final = await client.chat.completions.stream(request(32)).finalChatCompletion();
  assert.equal(final.choices[0].message.content, whole.choices[0].message.content);
});

test('stop strings', async () => {
  const text = (await client.chat.completions.create(request(60))).choices[0].message.content;
  const stop = text.slice(20, 26);
  const stopped = await client.chat.completions.create(request(60, { stop: [stop] }));
  assert.equal(stopped.choices[0].message.content, text.slice(0, text.indexOf(stop)));
  assert.equal(stopped.choices[0].finish_reason, 'stop');
});

test('log-probabilities', async () => {
  const answer = await client.chat.completions.create(request(8, { logprobs: true, top_logprobs: 3 }));
  const tokens = answer.choices[0].logprobs.content;
  assert.equal(tokens.length, 8);
  const bytes = tokens.flatMap((token) => token.bytes);
  assert.equal(Buffer.from(bytes).toString(), answer.choices[0].message.content);
  for (const token of tokens) {
    assert.equal(token.top_logprobs.length, 3);
    assert.equal(token.top_logprobs[0].token, token.token);
  }
});

test('several choices', async () => {
  const answer = await client.chat.completions.create(request(16, { n: 3, temperature: 1, seed: 7 }));
  assert.deepEqual(answer.choices.map((c) => c.index), [0, 1, 2]);
  const again = await client.chat.completions.create(request(16, { n: 3, temperature: 1, seed: 7 }));
  assert.deepEqual(again.choices.map((c) => c.message.content), answer.choices.map((c) => c.message.content));
});

test('completions', async () => {
  const answer = await client.completions.create({ model, prompt: 'The cat', max_tokens: 8, temperature: 0, echo: true, logprobs: 2 });
  assert.ok(answer.choices[0].text.startsWith('The cat'));
  assert.equal(answer.choices[0].logprobs.tokens.length, answer.choices[0].logprobs.text_offset.length);
  let text = '';
  for await (const chunk of await client.completions.create({ model, prompt: 'The cat', max_tokens: 8, temperature: 0, stream: true })) {
    text += chunk.choices[0]?.text ?? '';
  }
  assert.equal(`The cat${text}`, answer.choices[0].text);
});

test('errors', async () => {
  await assert.rejects(client.chat.completions.create(request(4, { model: 'no-such-model' })), (err) => {
    assert.ok(err instanceof OpenAI.NotFoundError);
    assert.equal(err.code, 'model_not_found');
    return true;
  });
  const long = [{ role: 'user', content: 'a big red ball and '.repeat(400) }];
  await assert.rejects(client.chat.completions.create(request(10, { messages: long })), (err) => {
    assert.ok(err instanceof OpenAI.BadRequestError);
    assert.equal(err.code, 'context_length_exceeded');
    return true;
  });
  await assert.rejects(client.chat.completions.create(request(4, { top_p: 7 })), (err) => {
    assert.ok(err instanceof OpenAI.BadRequestError);
    assert.equal(err.param, 'top_p');
    return true;
  });
});

test('an aborted stream frees its sequence', async () => {
  const stream = await client.chat.completions.create(request(400, { stream: true, ignore_eos: true }));
  for await (const chunk of stream) {
    if (chunk.choices[0]?.delta?.content) {
      stream.controller.abort();
      break;
    }
  }
  while ((await running()) > 0) { // for ever, if the abandoned request still runs
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
});

test('32 clients at once get the answer that each gets alone', async () => {
  const alone = (await client.chat.completions.create(request(48))).choices[0].message.content;
  const texts = await Promise.all(
    Array.from({ length: 32 }, async () => {
      let text = '';
      for await (const chunk of await client.chat.completions.create(request(48, { stream: true }))) {
        text += chunk.choices[0]?.delta?.content ?? '';
      }
      return text;
    }),
  );
  for (const text of texts) assert.equal(text, alone);
});
