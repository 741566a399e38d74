import type { ServerInterceptingCall, ServerInterceptingCallInterface, ServerInterceptor } from '@grpc/grpc-js';

/**
 * An interceptor for unary calls. grpc-js sends a message, waits until it is on the wire, and only then the status, which
 * the client waits for: two turns of the event loop on either side. Asked for the status in the same turn, node:http2
 * writes both together.
 */
export function statusWithMessage(maxMessageBytes: number): ServerInterceptor {
  return (method, call) => {
    if (!method.requestStream && !method.responseStream) sendStatusAtOnce(call, maxMessageBytes);
    // The type asks for the class; grpc-js itself hands over, and uses, only this interface.
    return call as ServerInterceptingCall;
  };
}

function sendStatusAtOnce(call: ServerInterceptingCallInterface, maxMessageBytes: number): void {
  const send: ServerInterceptingCallInterface['sendMessage'] = call.sendMessage.bind(call);
  call.sendMessage = (message: unknown, callback) => {
    // Too large a message is answered with another status, by grpc-js.
    const isSent = message instanceof Uint8Array && message.length <= maxMessageBytes;
    send(message, isSent ? () => {} : callback);
    if (isSent) callback();
  };
}
