// Drives responses and conversations with OpenAI's official JavaScript client. HEARTH_URL and HEARTH_MODEL name the server and
// the model. HEARTH_EVENTS, if set, names a file that gains every event, one a line, to be checked against the schemas.
import assert from 'node:assert/strict';
import { appendFileSync } from 'node:fs';
import { test } from 'node:test';
import OpenAI from 'openai';
import { ResponsesWS } from 'openai/resources/responses/ws';

const url = process.env.HEARTH_URL;
const model = process.env.HEARTH_MODEL;
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'unused', maxRetries: 0 });

const prompt = 'Once upon a time, there was a little girl named Lily.';

// request is a greedy response of at most a number of tokens.
const request = (tokens, more = {}) => ({ model, input: prompt, max_output_tokens: tokens, temperature: 0, ...more });

// note keeps an event for the check against its schema.
function note(schema, event) {
  if (process.env.HEARTH_EVENTS) {
    appendFileSync(process.env.HEARTH_EVENTS, `${schema} ${JSON.stringify(event)}\n`);
  }
}

// read follows a stream to its end: its events, in order, its text and its last response.
async function read(stream, first = 0) {
  const types = [];
  let text = '';
  let last = null;
  for await (const event of stream) {
    note('ResponseStreamEvent', event);
    assert.equal(event.sequence_number, first + types.length);
    types.push(event.type);
    if (event.type === 'response.output_text.delta') text += event.delta;
    if (event.response) last = event.response;
  }
  return { types, text, last };
}

const wait = async (id) => {
  for (;;) {
    const response = await client.responses.retrieve(id);
    if (response.status !== 'queued' && response.status !== 'in_progress') return response;
  }
};

test('a response', async () => {
  const response = await client.responses.create(request(24, { instructions: 'Tell a story.', metadata: { topic: 'lily' } }));
  note('Response', response);
  assert.match(response.id, /^resp_/);
  assert.equal(response.object, 'response');
  assert.equal(response.status, 'incomplete');
  assert.equal(response.incomplete_details.reason, 'max_output_tokens');
  assert.equal(response.usage.output_tokens, 24);
  assert.equal(response.metadata.topic, 'lily');
  assert.ok(response.output_text.length > 0);

  const again = await client.responses.retrieve(response.id);
  assert.equal(again.output_text, response.output_text);
  const input = [];
  for await (const item of client.responses.inputItems.list(response.id)) input.push(item);
  assert.deepEqual(input.map((item) => item.content[0].text), [prompt]);
  const count = await client.responses.inputTokens.count({ model, input: prompt, instructions: 'Tell a story.' });
  assert.equal(count.input_tokens, response.usage.input_tokens);

  await client.responses.delete(response.id);
  await assert.rejects(client.responses.retrieve(response.id), OpenAI.NotFoundError);
});

test('a stream equals the whole answer', async () => {
  const whole = await client.responses.create(request(32));
  const { types, text, last } = await read(await client.responses.create(request(32, { stream: true })));
  assert.equal(types[0], 'response.created');
  assert.equal(types.at(-1), 'response.incomplete');
  assert.equal(text, whole.output_text);
  assert.equal(last.output[0].content[0].text, whole.output_text);
});

test('the stream helper', async () => {
  const whole = await client.responses.create(request(32));
  const stream = client.responses.stream(request(32));
  let text = '';
  stream.on('response.output_text.delta', (event) => {
    text += event.delta;
  });
  const final = await stream.finalResponse();
  assert.equal(text, whole.output_text);
  assert.equal(final.output[0].content[0].text, whole.output_text);
});

test('a chain of responses equals the whole history', async () => {
  const story = prompt.repeat(8); // the cache keeps whole blocks of tokens
  const first = await client.responses.create(request(20, { input: story }));
  const second = await client.responses.create(request(20, { input: 'And then?', previous_response_id: first.id }));
  const whole = await client.responses.create(request(20, {
    input: [{ role: 'user', content: story }, ...first.output, { role: 'user', content: 'And then?' }],
    store: false,
  }));
  assert.equal(second.output_text, whole.output_text);
  assert.ok(second.usage.input_tokens_details.cached_tokens > 0);
  await assert.rejects(client.responses.retrieve(whole.id), OpenAI.NotFoundError);
});

test('conversations', async () => {
  const conversation = await client.conversations.create({ metadata: { topic: 'lily' }, items: [{ role: 'user', content: prompt }] });
  note('ConversationResource', conversation);
  const first = await client.responses.create(request(20, { input: 'Go on.', conversation: conversation.id }));
  assert.equal(first.conversation.id, conversation.id);
  const second = await client.responses.create(request(20, { input: 'And then?', conversation: { id: conversation.id } }));
  const items = [];
  for await (const item of client.conversations.items.list(conversation.id, { order: 'asc', limit: 2 })) items.push(item);
  assert.deepEqual(
    items.map((item) => [item.role, item.content[0].text]),
    [['user', prompt], ['user', 'Go on.'], ['assistant', first.output_text], ['user', 'And then?'], ['assistant', second.output_text]],
  );
  assert.equal((await client.conversations.items.retrieve(items[2].id, { conversation_id: conversation.id })).id, items[2].id);
  const updated = await client.conversations.update(conversation.id, { metadata: { topic: 'dog' } });
  assert.equal(updated.metadata.topic, 'dog');
  await client.conversations.items.delete(items[4].id, { conversation_id: conversation.id });
  const added = await client.conversations.items.create(conversation.id, { items: [{ role: 'user', content: 'Stop.' }] });
  assert.equal(added.data[0].content[0].text, 'Stop.');
  await client.conversations.delete(conversation.id);
  await assert.rejects(client.conversations.retrieve(conversation.id), OpenAI.NotFoundError);
});

// long is a response in the background that takes its time. The model is so small that it may still be faster than what is
// done about it, so that tests try again.
const long = (more = {}) => request(400, { background: true, stream: true, ignore_eos: true, truncation: 'auto', ...more });
const attempts = 50;

// begin starts a response and returns its id when the first text is there.
async function begin(body) {
  let id = null;
  for await (const event of await client.responses.create(body)) {
    id ??= event.response.id;
    if (event.type === 'response.output_text.delta') break;
  }
  return id;
}

test('one turn at a time in a conversation', async () => {
  const conversation = await client.conversations.create({});
  let conflict = null;
  for (let i = 0; i < attempts && conflict === null; i++) {
    const id = await begin(long({ input: `Day ${i}.`, conversation: conversation.id }));
    await client.responses.create(request(20, { conversation: conversation.id })).catch((err) => {
      conflict = err;
    });
    await client.responses.cancel(id);
  }
  assert.ok(conflict instanceof OpenAI.ConflictError, `${conflict}`);
  assert.equal(conflict.code, 'conversation_locked');
  const next = await client.responses.create(request(20, { conversation: conversation.id, truncation: 'auto' }));
  assert.ok(next.output_text.length > 0);
});

test('background', async () => {
  const whole = await client.responses.create(request(24));
  const begun = await client.responses.create(request(24, { background: true }));
  assert.ok(['queued', 'in_progress', 'incomplete'].includes(begun.status));
  const ended = await wait(begun.id);
  assert.equal(ended.status, 'incomplete');
  assert.equal(ended.output_text, whole.output_text);
});

test('a background stream is replayed from any event on', async () => {
  const live = await read(await client.responses.create(request(24, { background: true, stream: true })));
  assert.deepEqual(live.types.slice(0, 3), ['response.created', 'response.queued', 'response.in_progress']);
  const replay = await read(await client.responses.retrieve(live.last.id, { stream: true }));
  assert.deepEqual(replay.types, live.types);
  assert.equal(replay.text, live.text);
  for (const after of [0, 7, live.types.length - 2]) {
    const rest = await read(await client.responses.retrieve(live.last.id, { stream: true, starting_after: after }), after + 1);
    assert.deepEqual(rest.types, live.types.slice(after + 1));
  }
});

test('cancel', async () => {
  let cancelled = null;
  for (let i = 0; i < attempts && cancelled?.status !== 'cancelled'; i++) {
    cancelled = await client.responses.cancel(await begin(long()));
    assert.ok(['cancelled', 'incomplete'].includes(cancelled.status));
  }
  note('Response', cancelled);
  assert.equal(cancelled.status, 'cancelled');
  assert.equal((await client.responses.cancel(cancelled.id)).status, 'cancelled');
  const { last } = await read(await client.responses.retrieve(cancelled.id, { stream: true }));
  assert.equal(last.status, 'cancelled');
});

test('compaction', async () => {
  const first = await client.responses.create(request(20));
  const compacted = await client.responses.compact({ model, previous_response_id: first.id });
  note('CompactResource', compacted);
  assert.equal(compacted.output.at(-1).type, 'compaction');
  const next = await client.responses.create(request(20, { input: [...compacted.output, { role: 'user', content: 'And then?' }] }));
  assert.ok(next.output_text.length > 0);
});

test('errors', async () => {
  const refused = async (body, type, code, param) => {
    await assert.rejects(client.responses.create(body), (err) => {
      assert.ok(err instanceof type, `${err}`);
      assert.equal(err.code, code);
      assert.equal(err.param, param);
      assert.ok(err.requestID);
      return true;
    });
  };
  await refused(request(24, { model: 'none' }), OpenAI.NotFoundError, 'model_not_found', 'model');
  await refused(request(24, { previous_response_id: 'resp_none' }), OpenAI.BadRequestError, 'previous_response_not_found', 'previous_response_id');
  await refused(request(24, { text: { format: { type: 'json_object' } } }), OpenAI.BadRequestError, 'unsupported_parameter', 'text.format');
  await refused(request(24, { tools: [{ type: 'web_search' }] }), OpenAI.BadRequestError, 'unsupported_parameter', 'tools[0].type');
  await refused(request(24, { input: 'word '.repeat(2000) }), OpenAI.BadRequestError, 'context_length_exceeded', 'input');
  await refused(request(3), OpenAI.BadRequestError, 'invalid_value', 'max_output_tokens');
});

// open connects a WebSocket. Its next is a function that waits for the next event.
async function open() {
  const ws = new ResponsesWS(client);
  const events = [];
  let wake = () => {};
  const arrived = (event) => {
    events.push(event);
    wake();
  };
  ws.on('event', (event) => {
    note('ResponsesServerEvent', event);
    arrived(event);
  });
  ws.on('error', () => {}); // the error is an event too
  await new Promise((resolve, reject) => {
    ws.socket.once('open', resolve);
    ws.socket.once('error', reject);
  });
  const next = async () => {
    while (events.length === 0) {
      await new Promise((resolve) => {
        wake = resolve;
      });
    }
    return events.shift();
  };
  return { ws, next };
}

// turn asks for a response over a WebSocket and reads it to its end.
async function turn({ ws, next }, body) {
  ws.send({ type: 'response.create', ...body });
  for (let sequence = 0; ; sequence++) {
    const event = await next();
    assert.notEqual(event.type, 'error', JSON.stringify(event));
    assert.equal(event.sequence_number, sequence);
    if (['response.completed', 'response.incomplete', 'response.failed'].includes(event.type)) return event.response;
  }
}

const textOf = (response) => response.output.flatMap((item) => item.content ?? []).map((part) => part.text).join('');

test('WebSocket', async () => {
  const whole = await client.responses.create(request(20));
  const chained = await client.responses.create(request(20, { input: 'And then?', previous_response_id: whole.id }));
  const socket = await open();
  const first = await turn(socket, request(20, { store: false }));
  assert.equal(textOf(first), whole.output_text);
  const second = await turn(socket, request(20, { store: false, input: 'And then?', previous_response_id: first.id }));
  assert.equal(textOf(second), chained.output_text);
  socket.ws.send({ type: 'response.create', ...request(20, { previous_response_id: 'resp_none', stream_id: 'a' }) });
  const error = await socket.next();
  assert.equal(error.type, 'error');
  assert.equal(error.status, 400);
  assert.equal(error.stream_id, 'a');
  assert.equal(error.error.code, 'previous_response_not_found');
  socket.ws.close();
});

test('lanes of a WebSocket', async () => {
  const socket = await open();
  const lanes = ['a', 'b', 'c'];
  for (const stream_id of lanes) socket.ws.send({ type: 'response.create', stream_id, ...request(40, { store: false, seed: 1 }) });
  const texts = {};
  const sequences = {};
  while (Object.keys(texts).length < lanes.length) {
    const event = await socket.next();
    assert.equal(event.sequence_number, sequences[event.stream_id] ?? 0);
    sequences[event.stream_id] = event.sequence_number + 1;
    if (event.type === 'response.incomplete' || event.type === 'response.completed') texts[event.stream_id] = event.response;
  }
  assert.deepEqual(new Set(Object.values(texts).map(textOf)).size, 1);
  const fork = await turn(socket, request(20, { stream_id: 'd', input: 'And then?', previous_response_id: texts.b.id }));
  assert.ok(textOf(fork).length > 0);
  socket.ws.close();
});
